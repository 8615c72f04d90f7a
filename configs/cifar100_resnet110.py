"""CMPE-ResNet-110 (basic blocks) on CIFAR-100.

Data      python -m cmpe_jax.data.prepare --dataset=cifar100
Command   python -m cmpe_jax.main --config=configs/cifar100_resnet110.py
Recipe    recipes.resnet: He et al. 2016
Expected  test error in percent, as the paper reports it (arXiv 1807.08920); mixup: --config.mixup_alpha=1

            --config.model.gate=   plain   mixup
            none                       -   23.98
            se                     25.82       -
            pair_1x1 (default)     25.35   22.92
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.resnet('cifar100', depth=110, block='basic')
