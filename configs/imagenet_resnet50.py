"""ResNet-50 v1.5 without a gate on ImageNet.

Data      python -m cmpe_jax.data.prepare --dataset=imagenet2012 --archives=DIR   (DIR holds the two official tars)
Command   python -m cmpe_jax.main --config=configs/imagenet_resnet50.py --workdir=gs://BUCKET/imagenet_resnet50
Recipe    recipes.imagenet: Goyal et al. 2017
Expected  top-1 error of 23.60 +- 0.12 % (batch 256) and 23.74 +- 0.09 % (batch 8192), as Goyal et al. report
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.imagenet(depth=50, gate='none')
