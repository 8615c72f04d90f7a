"""Multiplications of lowered programs, against loops over every output, tap and channel."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from cmpe_jax.tools.shared import multiplications


def of(function, *shapes):
  return multiplications.count(jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)))


def pairs(size, taps, stride, padding, dilation):
  """(output, tap) pairs along one axis that read a pixel."""
  reach = size + sum(padding) - (taps - 1) * dilation - 1
  outputs = range(reach // stride + 1)
  return sum(0 <= row * stride + tap * dilation - padding[0] < size for row in outputs for tap in range(taps))


@pytest.mark.parametrize(
  ('strides', 'padding', 'dilation'),
  [
    ((1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((2, 2), ((1, 1), (0, 2)), (1, 1)),
    ((2, 1), ((1, 0), (3, 3)), (1, 2)),
  ],
)
@pytest.mark.parametrize('groups', [1, 2])
def test_a_convolution_and_its_gradients_multiply_as_often_each(strides, padding, dilation, groups):
  """Each product x[pixel] * w[tap] of the forward direction gives one to the gradient of either."""
  images, rows, columns, channels, features = 2, 9, 8, 4, 6
  forward = images * (channels // groups) * features
  forward *= pairs(rows, 3, strides[0], padding[0], dilation[0]) * pairs(
    columns, 3, strides[1], padding[1], dilation[1]
  )

  def convolve(x, w):
    return jax.lax.conv_general_dilated(
      x,
      w,
      strides,
      padding,
      rhs_dilation=dilation,
      feature_group_count=groups,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  shapes = (images, rows, columns, channels), (3, 3, channels // groups, features)
  assert of(convolve, *shapes) == forward
  gradients = jax.grad(lambda x, w: convolve(x, w).sum(), argnums=(0, 1))
  assert of(gradients, *shapes) == 2 * forward  # the sum's gradient needs no forward direction


def test_a_product_counts_batch_rows_columns_and_depth():
  assert of(lambda a, b: jnp.einsum('nij,njk->nik', a, b), (2, 3, 4), (2, 4, 5)) == 2 * 3 * 4 * 5
  assert of(lambda a, b: jnp.einsum('ijk,kj->i', a, b), (2, 3, 4), (4, 3)) == 2 * 3 * 4
  assert of(lambda a, b: a * b + jnp.sum(a), (2, 3), (2, 3)) == 0


def test_a_function_counts_as_often_as_it_is_called_and_a_loop_once():
  inner = jax.jit(jnp.dot)
  assert of(lambda a: inner(inner(a, a), a), (3, 3)) == 2 * 27
  assert of(lambda a: jax.lax.fori_loop(0, 5, lambda _, x: x @ a, a), (3, 3)) == 27


def test_only_the_branch_of_the_platform_counts():
  def either(a):
    return jax.lax.platform_dependent(a, cpu=lambda a: a @ a, default=lambda a: a @ a @ a)

  traced = jax.jit(either).trace(jax.ShapeDtypeStruct((3, 3), jnp.float32))
  found = [multiplications.count(traced.lower(lowering_platforms=(name,))) for name in ('cpu', 'cuda')]
  assert found == [27, 54]


def test_the_small_loops_agree_with_a_plain_count():
  """`pairs` itself: five pixels, three taps, a border of one and stride two, written out."""
  every = [row * 2 + tap - 1 for row, tap in itertools.product(range(3), range(3))]
  assert every == [-1, 0, 1, 1, 2, 3, 3, 4, 5]
  assert pairs(5, 3, 2, (1, 1), 1) == 7
