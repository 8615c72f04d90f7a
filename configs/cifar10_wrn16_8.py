"""CMPE-WRN-16-8 on CIFAR-10.

Data      python -m cmpe_jax.data.prepare --dataset=cifar10
Command   python -m cmpe_jax.main --config=configs/cifar10_wrn16_8.py
Recipe    recipes.wide_resnet: Zagoruyko and Komodakis 2016
Expected  test error in percent, as the paper reports it (arXiv 1807.08920); mixup: --config.mixup_alpha=1

            --config.model.gate=   plain   mixup
            pair_1x1 (default)      4.20    3.18
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.wide_resnet('cifar10', depth=16, width=8)
