"""CMPE-ResNet-164 (bottleneck blocks) on CIFAR-10.

Data      python -m cmpe_jax.data.prepare --dataset=cifar10
Command   python -m cmpe_jax.main --config=configs/cifar10_resnet164.py
Recipe    recipes.resnet: He et al. 2016
Expected  test error in percent, as the paper reports it (arXiv 1807.08920); mixup: --config.mixup_alpha=1

            --config.model.gate=   plain   mixup
            none                    5.46    4.15
            se                      4.85    4.07
            double_fc               4.72    3.82
            pair_2x1                4.59    3.76
            pair_1x1 (default)      4.57    3.78
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.resnet('cifar10', depth=164, block='bottleneck')
