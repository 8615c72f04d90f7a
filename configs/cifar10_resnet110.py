"""CMPE-ResNet-110 (basic blocks) on CIFAR-10.

Data      python -m cmpe_jax.data.prepare --dataset=cifar10
Command   python -m cmpe_jax.main --config=configs/cifar10_resnet110.py
Recipe    recipes.resnet: He et al. 2016
Expected  test error in percent, as the paper reports it (arXiv 1807.08920); mixup: --config.mixup_alpha=1

            --config.model.gate=   plain   mixup
            none                    6.37       -
            se                      5.68       -
            pair_1x1 (default)      5.45    4.30
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.resnet('cifar10', depth=110, block='basic')
