"""Whole nets against logits that the authors' own code computed (float32, MXNet 1.9.1)."""

import json
import os
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmpe_jax import config as configuration
from cmpe_jax import models, names
from cmpe_jax.tools.convert import gluon

GATES = {'se': 'se', 'double_fc': 'double_fc', '1x1': 'pair_1x1', '2x1': 'pair_2x1', '3x3': 'folded_3x3'}
FOLDERS = [pathlib.Path(__file__).parents[1] / 'golden' / 'nets']
if 'CMPE_JAX_GOLDEN_NETS' in os.environ:  # more nets than the repository carries
  FOLDERS.append(pathlib.Path(os.environ['CMPE_JAX_GOLDEN_NETS']))
FILES = sorted(file for folder in FOLDERS for file in folder.glob('*.params'))


def load(file: pathlib.Path, form: str):
  golden = np.load(file.with_suffix('.npz'))
  meta = json.loads(str(golden['meta']))
  config = configuration.model()
  config.depth, config.gate, config.gate_form = meta['depth'], GATES[meta['variant']], form
  if meta['family'] == 'wrn':
    config.backbone, config.block, config.width = 'wide_resnet', 'basic', meta['width']
  variables = gluon.from_gluon(str(file), config)
  config.num_classes = meta['classes']
  return models.build(config), variables, golden


@pytest.mark.parametrize('form', names.GATE_FORMS)
@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_logits_loss_and_scales_equal_the_authors(file, form):
  model, variables, golden = load(file, form)
  images = jnp.asarray(golden['x'].transpose(0, 2, 3, 1))

  @jax.jit
  def run(variables, images):
    infer = model.apply(variables, images, train=False, mutable=['intermediates'])
    train = model.apply(variables, images, train=True, mutable=['batch_stats', 'intermediates'])
    return infer, train

  for mode, (logits, updated) in zip(('infer', 'train'), run(variables, images), strict=True):
    expected = golden[f'logits_{mode}']
    chex.assert_trees_all_close(logits, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
    for key in golden.files:
      if key.startswith(f'inter/{mode}/'):
        block = key.split('/')[2].replace('.', '_')
        chex.assert_trees_all_close(updated['intermediates'][block]['scale'][0], golden[key], atol=1e-5, rtol=0)
    if mode == 'train':
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, golden['labels']).mean()
      assert float(loss) == pytest.approx(float(golden['loss_mean']), rel=1e-5)
