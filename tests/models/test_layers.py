"""Convolutions by themselves."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmpe_jax.models import layers

ROWS = 8 * 20 * 20


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('channels', [(4, 12), (6, 12), (12, 4)])
def test_convolution_1x1_and_its_gradients_are_the_sums_they_should_be(channels, stride):
  with jax.enable_x64(True):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 5, 6, channels[0])), rng.normal(size=(1, 1, *channels))
    y, backward = jax.vjp(lambda x, k: layers.convolve(x, k, (stride,) * 2, (0, 0)), x, kernel)
    seen, one = x[:, ::stride, ::stride], kernel[0, 0]
    np.testing.assert_allclose(y, np.einsum('nhwi,io->nhwo', seen, one), rtol=1e-12, atol=1e-13)
    g = rng.normal(size=y.shape)
    dx, dk = backward(jnp.asarray(g))
    expected = np.zeros_like(x)
    expected[:, ::stride, ::stride] = np.einsum('nhwo,io->nhwi', g, one)
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(dk[0, 0], np.einsum('nhwi,nhwo->io', seen, g), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize('channels', [(64, 256), (256, 64)])
def test_gradient_of_a_1x1_kernel_transposes_no_operand(channels):
  """On a CPU, where 1x1 convolutions are matrix products."""
  x = jax.ShapeDtypeStruct((8, 20, 20, channels[0]), np.float32)
  kernel = jax.ShapeDtypeStruct((1, 1, *channels), np.float32)
  g = jax.ShapeDtypeStruct((8, 20, 20, channels[1]), np.float32)

  def gradient(x, kernel, g):
    return jax.vjp(lambda k: layers.convolve(2 * x, k, (1, 1), (0, 0)), kernel)[1](3 * g)

  text = jax.jit(gradient).lower(x, kernel, g).compile().as_text()
  assert f'f32[{ROWS},{channels[0]}]' in text
  assert not re.findall(rf'f32\[\d+,{ROWS}\]', text)
