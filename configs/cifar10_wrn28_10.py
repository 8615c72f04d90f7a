"""CMPE-WRN-28-10 on CIFAR-10.

Data      python -m cmpe_jax.data.prepare --dataset=cifar10
Command   python -m cmpe_jax.main --config=configs/cifar10_wrn28_10.py
Recipe    recipes.wide_resnet: Zagoruyko and Komodakis 2016
Expected  test error in percent, as the paper reports it (arXiv 1807.08920); mixup: --config.mixup_alpha=1

            --config.model.gate=   plain   mixup
            none                    4.17    2.70
            se                      3.88    2.68
            double_fc               3.66    2.62
            pair_2x1                3.73    2.65
            pair_1x1 (default)      3.58    2.58
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.wide_resnet('cifar10', depth=28, width=10)
