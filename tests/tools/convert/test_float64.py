"""Weights are written in the type that the run restores."""

import safetensors.numpy
from harness import newest_arrays, run_module

from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.models import paths
from cmpe_jax.tools.convert.timm import timm_name

CONFIG = """
from cmpe_jax import config


def get_config():
  made = config.base()
  made.model.update({'backbone': 'imagenet_resnet', 'preact': False, 'gate': 'none', 'depth': 18, 'block': 'basic'})
  made.dtype = 'float64'
  return made
"""


def test_a_float64_run_finds_float64_values(tmp_path):
  import jax
  import numpy as np

  model = configuration.model()
  model.update({'backbone': 'imagenet_resnet', 'preact': False, 'gate': 'none', 'depth': 18, 'block': 'basic'})
  model.num_classes = 10
  named = paths.named(models.init(models.build(model), jax.random.key(0), 64))
  orders = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
  theirs = {timm_name(name.split('/')[1:]): np.asarray(x).transpose(orders[x.ndim]).copy() for name, x in named.items()}
  safetensors.numpy.save_file(theirs, tmp_path / 'weights.safetensors')
  (tmp_path / 'double.py').write_text(CONFIG)
  done = run_module(
    'cmpe_jax.tools.convert',
    'timm',
    str(tmp_path / 'weights.safetensors'),
    f'--config={tmp_path}/double.py',
    f'--workdir={tmp_path}/run',
  )
  assert done.returncode == 0, done.stderr
  with jax.enable_x64(True):
    step, arrays = newest_arrays(tmp_path / 'run')
  assert step == 0
  for name, value in arrays.items():
    assert value.dtype == (np.int32 if 'count' in name or name == 'step' else np.float64), name
  for name, value in named.items():
    np.testing.assert_array_equal(arrays[name], np.asarray(value, np.float64))
