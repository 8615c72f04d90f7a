"""CMPE-WRN-22-10 on CIFAR-100.

Data      python -m cmpe_jax.data.prepare --dataset=cifar100
Command   python -m cmpe_jax.main --config=configs/cifar100_wrn22_10.py
Recipe    recipes.wide_resnet: Zagoruyko and Komodakis 2016
Expected  test error in percent, as the paper reports it (arXiv 1807.08920); mixup: --config.mixup_alpha=1

            --config.model.gate=   plain   mixup
            none                   20.75   17.88
            se                     19.52   17.06
            pair_1x1 (default)     18.86   16.82
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.wide_resnet('cifar100', depth=22, width=10)
