"""Convolutions that know how to give the descriptor of their output."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmpe_jax.models import initializers
from cmpe_jax.models.convolution import convolve
from cmpe_jax.models.descriptors import REFERENCE, Descriptors, mean_hw, mean_of_conv
from cmpe_jax.models.expansion import Expansion
from cmpe_jax.models.folding import Convolution
from cmpe_jax.models.precision import at_least_float32

Array = jax.Array
Pair = tuple[int, int]
BLURRED = 16  # channels from which on the input of a strided convolution is blurred, if any is


def blur(x: Array, strides: Pair) -> Array:
  """[N, H, W, c] -> [N, H', W', c]: channels filtered by (1, 2, 1)/4 in rows and columns, zeros around.

  Not a convolution: as sums of shifted maps it is one pass that whatever comes before it can be part of.
  """
  shape, kind = x.shape, x.dtype
  padded = jnp.pad(x.astype(at_least_float32(kind)), ((0, 0), (1, 1), (1, 1), (0, 0)))

  def taps(axis: int, stride: int, values: Array) -> Array:
    one, two, three = (jax.lax.slice_in_dim(values, i, i + shape[axis], stride=stride, axis=axis) for i in range(3))
    return (one + three) / 4 + two / 2

  return taps(2, strides[1], taps(1, strides[0], padded)).astype(kind)


class Conv(nn.Module):
  """A convolution without bias whose output's descriptor can be had with it.

  Attributes:
    features: output channels.
    kernel_size: 1, 3, ...; padding is half of it on every side.
    strides: the same for rows and columns.
    dtype: of the computation; the kernel is kept in at least float32. float32 means full float32 products.
    descriptors: how `with_descriptor` obtains the descriptor.
    blurs: the input is blurred where the convolution strides and has 16 channels or more (Zhang 2019, arXiv 1904.11486,
      as ffcv does it).
  """

  features: int
  kernel_size: int = 3
  strides: int = 1
  dtype: jax.typing.DTypeLike = jnp.float32
  descriptors: Descriptors = REFERENCE
  blurs: bool = False

  @nn.compact
  def __call__(
    self, x: Array, with_descriptor: bool = False, sums: Array | None = None, normalized: bool = False
  ) -> Any:
    """[N, H, W, in] -> y [N, H', W', features], or (y or an `Expansion`, mean_HW(y) [N, features]) if asked for.

    `sums` [N, in]: of the pixels that a 1x1 convolution sees, if they are known. `normalized`: a batch normalization
    follows, and may be given a `Convolution` that it computes.
    """
    k = self.kernel_size
    shape = (k, k, x.shape[-1], self.features)
    kernel = self.param('kernel', initializers.conv_kernel, shape, at_least_float32(self.dtype))
    strides, padding = (self.strides,) * 2, (k // 2,) * 2
    x = x.astype(self.dtype)
    if self.blurs and self.strides > 1 and x.shape[-1] >= BLURRED:
      x, strides = (blur(x, strides), (1, 1)) if k == 1 else (blur(x, (1, 1)), strides)
      sums = None
    if normalized and self.descriptors.fold:
      return Convolution(x, kernel, strides, padding, convolve)
    if not with_descriptor:
      return convolve(x, kernel.astype(self.dtype), strides, padding)
    if sums is None and k == 1:
      x, sums = self.descriptors.summed(x, strides)
    if self.descriptors.leaves_to_sum(x, kernel, strides):
      pooled = mean_hw(x) if sums is None else sums / (x.shape[1] * x.shape[2])
      expansion = Expansion(x, kernel[0, 0], pooled, convolves=self.descriptors.convolves(x))
      return expansion, mean_of_conv(x, kernel, strides, padding, sums)
    y = convolve(x, kernel.astype(self.dtype), strides, padding)
    return y, self.descriptors.of_conv(x, y, kernel, strides, padding, sums)
