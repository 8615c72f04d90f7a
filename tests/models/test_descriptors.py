"""In which precision the sums of a descriptor are taken where a device has several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmpe_jax.models import descriptors


def lowered(function, dtype):
  return jax.jit(function).lower(jax.ShapeDtypeStruct((2, 8, 8, 4), dtype)).as_text()


def sums(x):
  return descriptors._sums_of_taps(x, (3, 3), (2, 2), (1, 1))


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_float32_is_summed_in_float32_and_bfloat16_in_one_pass(dtype):
  def gradient(x):
    return jax.grad(lambda x: (sums(x) ** 2).sum().astype(jnp.float32))(x)

  for function, dots in ((sums, 1), (gradient, 2)):
    lines = [line for line in lowered(function, dtype).splitlines() if 'dot_general' in line]
    assert len(lines) == dots
    for line in lines:
      assert ('precision = [HIGHEST, HIGHEST]' in line) == (dtype == jnp.float32), line


@pytest.mark.parametrize('form', [descriptors.products_with_masks, descriptors.masked_sums])
def test_sums_over_the_pixels_that_masks_leave(form):
  random = np.random.default_rng(0)
  x, masks = random.normal(size=(3, 5, 7, 4)), random.integers(0, 2, (9, 5, 7))
  expected = [[image[mask > 0].sum(0) for mask in masks] for image in x]
  with jax.enable_x64():
    np.testing.assert_allclose(form(x, masks), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
  ('platform', 'size', 'products'),
  [
    ('tpu', 1, 1),
    ('tpu', 3, 1),
    ('cuda', 1, 0),
    ('cuda', 3, 0),
    ('rocm', 1, 0),
    ('rocm', 3, 0),
    ('cpu', 1, 0),
    ('cpu', 3, 1),
  ],
)
def test_a_gpu_sums_the_pixels_that_a_filter_sees_without_a_product(platform, size, products):
  """Its compiler finds no tiles for one of one row, or of nine; the mean's product with the kernel is another one."""
  x = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.bfloat16)
  kernel = jax.ShapeDtypeStruct((size, size, 4, 8), jnp.float32)
  traced = jax.jit(descriptors.mean_of_conv, static_argnums=(2, 3)).trace(x, kernel, (2, 2), (size // 2, size // 2))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert text.count('stablehlo.dot_general') == 1 + products
