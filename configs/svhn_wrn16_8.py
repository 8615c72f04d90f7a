"""CMPE-WRN-16-8 on SVHN (cropped digits; train and extra, 604,388 images).

Data      python -m cmpe_jax.data.prepare --dataset=svhn_cropped
Command   python -m cmpe_jax.main --config=configs/svhn_wrn16_8.py
Recipe    recipes.svhn: Zagoruyko and Komodakis 2016
Expected  not reported here: the paper has results on SVHN, but its figures were not available to us
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.svhn(depth=16, width=8)
