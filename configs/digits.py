"""A small CMPE-ResNet on the handwritten digits that scikit-learn ships: `make train`.

x
"""

from cmpe_jax import config as configs


def get_config():
  config = configs.base()
  config.dataset = 'digits'
  config.model.update({'backbone': 'resnet', 'depth': 20, 'block': 'bottleneck'})
  config.update({
    'batch_size': 64,
    'epochs': 30.0,
    'schedule': 'cosine',
    'warmup_epochs': 3.0,
    'log_every_steps': 23,
  })  # fmt: skip
  return config
