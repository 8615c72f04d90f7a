"""CMPE-ResNet-164 (bottleneck blocks) on CIFAR-100.

Data      python -m cmpe_jax.data.prepare --dataset=cifar100
Command   python -m cmpe_jax.main --config=configs/cifar100_resnet164.py
Recipe    recipes.resnet: He et al. 2016
Expected  test error in percent, as the paper reports it (arXiv 1807.08920); mixup: --config.mixup_alpha=1

            --config.model.gate=   plain   mixup
            none                   24.33   20.84
            se                     22.61   19.89
            double_fc              22.38   19.58
            pair_2x1               22.41   19.69
            pair_1x1 (default)     22.35   19.46
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.resnet('cifar100', depth=164, block='bottleneck')
