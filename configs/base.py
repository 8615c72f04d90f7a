"""Every key with its default, for own experiments: --config=configs/base.py --config.KEY=VALUE ...

The keys and their meanings are in cmpe_jax/keys.py. As it stands it trains CMPE-ResNet-164 on the digits.
"""

from ml_collections import ConfigDict

from cmpe_jax.config import base


def get_config() -> ConfigDict:
  return base()
