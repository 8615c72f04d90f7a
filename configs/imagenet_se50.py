"""SE-ResNet-50 v1.5 on ImageNet.

Data      python -m cmpe_jax.data.prepare --dataset=imagenet2012 --archives=DIR   (DIR holds the two official tars)
Command   python -m cmpe_jax.main --config=configs/imagenet_se50.py --workdir=gs://BUCKET/imagenet_se50
Recipe    recipes.imagenet: Goyal et al. 2017
Expected  not reported here: no published figure is known to us for this recipe
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.imagenet(depth=50, gate='se')
