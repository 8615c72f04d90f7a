"""What can be captured of a network: what docs/library.md says of it."""

import jax
import jax.numpy as jnp
import pytest

from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.models import forms
from cmpe_jax.models.blocks import Block


def captured(form, preact, train, capture, scan_blocks=False):
  """The intermediates of a network of four blocks and one, as shapes, from under `jax.jit`."""
  keys = configuration.model()
  keys.update({'backbone': 'imagenet_resnet', 'depth': 50, 'preact': preact, 'num_classes': 10})
  keys.update({'gate_form': form.split(' on ')[0], 'scan_blocks': scan_blocks})
  model = models.build(keys, platform=form.split(' on ')[1])
  model = model.clone(stage_sizes=(4, 1), base_widths=(16, 32), columns=(16, 16))
  variables = models.init(model, jax.random.key(0), 32)

  def apply(variables, images):
    collections = ['intermediates', 'batch_stats']
    return model.apply(variables, images, train, mutable=collections, capture_intermediates=capture)[1]

  return jax.eval_shape(apply, variables, jnp.zeros((2, 32, 32, 3)))['intermediates']


def of_blocks(module, method):
  return isinstance(module, Block) and method == '__call__'


@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('preact', [True, False])
@pytest.mark.parametrize('form', forms.EVERY)
def test_what_blocks_hand_on_and_sow_is_there_in_every_form(form, preact, train):
  seen = captured(form, preact, train, of_blocks)
  assert sorted(seen) == [*(f'stage1_block{i}' for i in range(4)), 'stage2_block0']
  for name, block in seen.items():
    size, channels = (8, 64) if name.startswith('stage1') else (4, 128)
    assert block['__call__'][0][0].shape == (2, size, size, channels)
    assert [block[own][0].shape for own in ('u', 'v', 'scale')] == [(2, channels)] * 3


@pytest.mark.parametrize('preact', [True, False])
def test_the_reference_gives_every_module_away(preact):
  seen = captured(forms.EVERY[0], preact, True, True)
  assert seen['stage1_block0']['conv3']['__call__'][0][0].shape == (2, 8, 8, 64)


def test_a_loop_lets_through_what_its_blocks_sow():
  seen = captured('fused on cpu', True, True, of_blocks, scan_blocks=True)
  assert {name for name, block in seen.items() if '__call__' in block} == {'stage1_block0', 'stage2_block0'}
  assert seen['stage1_block3']['scale'][0].shape == (2, 64)
