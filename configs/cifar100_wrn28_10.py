"""CMPE-WRN-28-10 on CIFAR-100.

Data      python -m cmpe_jax.data.prepare --dataset=cifar100
Command   python -m cmpe_jax.main --config=configs/cifar100_wrn28_10.py
Recipe    recipes.wide_resnet: Zagoruyko and Komodakis 2016
Expected  test error in percent, as the paper reports it (arXiv 1807.08920); mixup: --config.mixup_alpha=1

            --config.model.gate=   plain   mixup
            none                   20.50   17.50
            se                     19.05   16.77
            double_fc              18.69   16.23
            pair_2x1               18.71   16.18
            pair_1x1 (default)     18.55   16.13
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.wide_resnet('cifar100', depth=28, width=10)
