"""CMPE-ResNet-50 v1.5 on ImageNet.

Data      python -m cmpe_jax.data.prepare --dataset=imagenet2012 --archives=DIR   (DIR holds the two official tars)
Command   python -m cmpe_jax.main --config=configs/imagenet_cmpe50.py --workdir=gs://BUCKET/imagenet_cmpe50
Recipe    recipes.imagenet: Goyal et al. 2017; the double FC variant: --config.model.gate=double_fc
Expected  not reported here: the paper has results on ImageNet, but its figures were not available to us
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.imagenet(depth=50, gate='pair_1x1')
