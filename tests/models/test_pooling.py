"""The stem's max-pooling against Flax's, whose gradient XLA computes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmpe_jax.models import pooling


def max_pool(x):
  return pooling.max_pool(x, by_winners=True)


def reference(x):
  return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


@pytest.mark.parametrize('size', [(8, 8), (7, 10), (5, 5), (1, 2)])
@pytest.mark.parametrize('ties', [False, True])
def test_output_and_gradient_are_those_of_flax(size, ties):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 3))
  x = np.maximum(np.round(2 * x), 0) if ties else x  # after a ReLU most of a window's pixels may be the largest
  with jax.enable_x64(True):
    y, backward = jax.vjp(max_pool, jnp.asarray(x))
    expected, expected_backward = jax.vjp(reference, jnp.asarray(x))
    dy = rng.integers(1, 100, y.shape).astype(float)  # sums of whole numbers are exact in any order
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(max_pool(x), expected)
    np.testing.assert_array_equal(backward(dy)[0], expected_backward(dy)[0])


def test_what_is_not_a_number_stays_visible():
  x = jnp.ones((1, 6, 6, 1)).at[0, 2, 3].set(jnp.nan)
  y, _ = jax.vjp(max_pool, x)
  np.testing.assert_array_equal(jnp.isnan(y), jnp.isnan(reference(x)))


def test_a_training_step_on_a_cpu_has_no_window_reduction_for_the_gradient():
  backward = jax.grad(lambda x: jnp.square(max_pool(x)).sum())
  text = jax.jit(backward).lower(jnp.ones((1, 8, 8, 4))).compile().as_text()
  assert 'reduce-window' not in text
  assert 'select-and-scatter' not in text
