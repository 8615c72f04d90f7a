"""Initial values: by the rule that a parameter is declared with, of this package or of another."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cmpe_jax.models import initializers


class Mixed(nn.Module):
  """Parameters of ours and of Flax's, a scalar and a kernel in a module of any name."""

  @nn.compact
  def __call__(self, x):
    temperature = self.param('temperature', initializers.ones, ())
    kernel = self.param('mix', initializers.Initializer(lambda normal: 3 + normal), (3, 5))
    theirs = nn.Dense(2000, kernel_init=nn.initializers.constant(7.0), name='theirs')(x.mean((1, 2)) @ kernel)
    shift = self.param('shift', nn.initializers.normal(2.0), (2000,))
    return temperature * theirs + shift


def test_the_rule_stands_where_the_parameter_is_declared():
  drawn = initializers.init(Mixed(), jax.random.key(0), 8)['params']
  slow = Mixed().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))['params']
  assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, slow)
  assert drawn['temperature'] == 1
  assert abs(drawn['mix'].mean() - 3) < 1
  assert (drawn['theirs']['kernel'] == 7).all()
  np.testing.assert_array_equal(drawn['shift'], slow['shift'])  # another library's is computed by that library
  assert abs(drawn['shift'].std() - 2) < 0.1


def test_a_value_depends_on_seed_path_and_shape_only():
  first, again, other = (initializers.init(Mixed(), jax.random.key(seed), 8)['params']['mix'] for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert (first != other).all()


def test_a_trace_that_fails_leaves_no_initializer_that_only_declares():
  class Broken:
    dtype = np.float32

    def init(self, key, x):
      raise ZeroDivisionError

  with contextlib.suppress(ZeroDivisionError):
    initializers.init(Broken(), jax.random.key(0), 8)
  assert isinstance(initializers.ones(None, (2,)), jax.Array)
