"""What a gate takes: descriptors [N, C] of any type and number, whatever network they come from; what `make` takes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.errors import UserError
from cmpe_jax.models import forms, gates
from cmpe_jax.models.gates.gate import Gate
from cmpe_jax.names import GATES

EVERY = [name for name in GATES if name != 'none']


@pytest.mark.parametrize('name', EVERY)
def test_a_gate_computes_in_float32_whatever_its_descriptors_are(name):
  """A value that bfloat16 has gives the scale that float32 gives; so do parameters and running statistics."""
  rng = np.random.default_rng(0)
  u, v = (jnp.asarray(rng.normal(size=(4, 64)), jnp.bfloat16) for _ in range(2))
  gate, found = gates.make(name, 64), []
  for kinds in ((jnp.bfloat16, jnp.bfloat16), (jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float32)):
    given = u.astype(kinds[0]), v.astype(kinds[1])
    variables = gate.init(jax.random.key(0), *given)
    found.append(gate.apply(variables, *given, True, mutable=['batch_stats', 'params']))
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(found)} == {'float32'}
  for other in found[:2]:
    jax.tree.map(np.testing.assert_array_equal, other, found[2])


@pytest.mark.parametrize('shapes', [[(4, 7, 7, 64)] * 2, [(64,)] * 2, [(4, 32)] * 2, [(4, 64), (1, 64)]])
@pytest.mark.parametrize('name', EVERY)
def test_what_is_no_pair_of_descriptors_is_refused(name, shapes):
  u, v = (jnp.ones(shape) for shape in shapes)
  with pytest.raises(UserError) as error:
    gates.make(name, 64).init(jax.random.key(0), u, v)
  for words in (str(list(shapes[0])), str(list(shapes[1])), 'spatial means', '[N, 64]'):
    assert words in str(error.value)


def test_a_gate_of_ones_own_is_given_descriptors_too():
  class Half(Gate):
    @nn.compact
    def __call__(self, u, v, train=False):
      assert (u.dtype, v.dtype) == (jnp.float32, jnp.float32)
      return self.param('half', nn.initializers.constant(0.5), (self.channels,), u.dtype) + 0 * u

  ones = jnp.ones((4, 8), jnp.float16)
  s, variables = Half(channels=8).init_with_output(jax.random.key(0), ones, ones)
  assert (float(s.min()), float(s.max()), s.dtype) == (0.5, 0.5, jnp.float32)
  assert variables['params']['half'].dtype == jnp.float32
  with pytest.raises(UserError, match=r'8 channels was given u \[4, 9\]'):
    Half(channels=8).apply(variables, jnp.ones((4, 9)), jnp.ones((4, 9)))


@pytest.mark.parametrize(
  ('name', 'form'),
  dict.fromkeys([(name, 'fused on cpu') for name in GATES] + [('pair_2x1', form) for form in forms.EVERY]),
)
def test_no_images_have_no_logits(name, form):
  keys = configuration.model()
  keys.update({'gate': name, 'gate_form': form.split(' on ')[0], 'num_classes': 10})
  for order in ({'depth': 11}, {'depth': 18, 'backbone': 'imagenet_resnet', 'block': 'basic', 'preact': False}):
    keys.update(order)
    model = models.build(keys, platform=form.split(' on ')[1])
    variables = models.init(model, jax.random.key(0), 8)
    assert jax.eval_shape(model.apply, variables, jnp.zeros((0, 8, 8, 3))).shape == (0, 10)


def test_arguments_of_make():
  """No columns are the default ones, as in a configuration; a gate can be a module of any name."""
  ones = jnp.ones((4, 64))
  made = gates.make('folded_3x3', channels=64, columns=0, name='gate')
  assert (made.columns, made.name) == (16, 'gate')
  assert made.init_with_output(jax.random.key(0), ones, ones)[0].shape == (4, 64)
  assert gates.make('folded_3x3', 64, columns=8).columns == 8


@pytest.mark.parametrize(
  ('given', 'words'),
  [
    (('folded_3x3', 64, 24), ['channels=64', 'columns=24', 'set columns', 'divisor of 64']),
    (('folded_3x3', 16, 16), ['channels=16', '2x16', 'set columns']),
    (('folded_3x3', 64, -16), ['-8x-16', 'set columns']),
    (('cbam', 64, 16), ["gate='cbam'", "'folded_3x3'"]),
    (('none', 64, 16), ["gate='none'", "'se'"]),
    (('se', 0, 16), ['channels=0', 'at least 1']),
  ],
)
def test_wrong_arguments_of_make_are_named(given, words):
  gate, channels, columns = given
  with pytest.raises(UserError) as error:
    gates.make(gate, channels, columns=columns)
  for word in words:
    assert word in str(error.value)
  assert str(error.value).count("'none'") == (gate == 'none')  # which is not offered
