"""In which precision the sums of a descriptor are taken where a device has several."""

import functools

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


def test_the_program_of_bfloat16_says_nothing_of_precision():
  rows = descriptors.seen_by_taps(8, 3, 2, 1)
  masks = np.einsum('ih,jw->ijhw', rows, rows).reshape(9, 8, 8)
  plain = functools.partial(jnp.einsum, 'thw,nhwc->ntc', preferred_element_type=jnp.float32)

  def before(x):
    return plain(jnp.asarray(masks, x.dtype), x)

  before.__name__ = 'sums'
  assert lowered(sums, jnp.bfloat16) == lowered(before, jnp.bfloat16)
  assert lowered(sums, jnp.float32) != lowered(before, jnp.float32)


@pytest.mark.parametrize(('platform', 'products'), [('tpu', 1), ('cuda', 0), ('rocm', 0), ('cpu', 0)])
def test_only_a_tpu_sums_the_pixels_of_a_strided_projection_by_a_product(platform, products):
  """The GPU's compiler finds no tiles for a product with one row; the mean's product with the kernel is another one."""
  x = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.bfloat16)
  kernel = jax.ShapeDtypeStruct((1, 1, 4, 8), jnp.float32)
  traced = jax.jit(descriptors.mean_of_conv, static_argnums=(2, 3)).trace(x, kernel, (2, 2), (0, 0))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert text.count('stablehlo.dot_general') == 1 + products
