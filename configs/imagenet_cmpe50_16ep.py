"""CMPE-ResNet-50 v1.5 on ImageNet in 16 epochs.

Data      python -m cmpe_jax.data.prepare --dataset=imagenet2012 --archives=DIR   (DIR holds the two official tars)
Command   python -m cmpe_jax.main --config=configs/imagenet_cmpe50_16ep.py --workdir=gs://BUCKET/imagenet_cmpe50_16ep
Recipe    recipes.fast_imagenet: ffcv's: batches of 4096 (the rate follows), 160 pixels, from epoch 12 on 192; evaluated
          at 256; the plain net: --config.model.gate=none
Expected  not measured by us; ffcv reports 73.8 % (top-1) for its plain ResNet-50 after 16 epochs, which took it 15
          minutes on 8 A100: https://github.com/libffcv/ffcv-imagenet
"""

from ml_collections import ConfigDict

from cmpe_jax import recipes


def get_config() -> ConfigDict:
  return recipes.fast_imagenet(depth=50, gate='pair_1x1', epochs=16, larger_from=12)
