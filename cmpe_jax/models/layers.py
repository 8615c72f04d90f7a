"""Convolution and map filters: the layers that know how to give a descriptor. Batch normalization is in `norms`."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmpe_jax.models import initializers
from cmpe_jax.models import inner_imaging as imaging
from cmpe_jax.models.descriptors import Descriptors
from cmpe_jax.models.norms import BatchNorm, at_least_float32, group, update_running

Array = jax.Array
Pair = tuple[int, int]
FilterMaps = Callable[[Array, Array, bool, int], Array]


def convolve(x: Array, kernel: Array, strides: Pair, padding: Pair) -> Array:
  """A convolution without bias, NHWC, `padding` zeros on both sides ('SAME' differs at stride 2).

  On CPUs a 1x1 convolution is a matrix product, which XLA computes several times faster there. On TPUs the matrix
  product would cost more: its operands' layouts are worse (a quarter more bytes in six pre-activation blocks, trained).
  """
  if kernel.shape[:2] != (1, 1) or padding != (0, 0):
    return _convolution(x, kernel, strides, padding)
  return jax.lax.platform_dependent(
    x, kernel, cpu=functools.partial(_product, strides), default=lambda a, b: _convolution(a, b, strides, padding)
  )


def _convolution(x: Array, kernel: Array, strides: Pair, padding: Pair) -> Array:
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    strides,
    [(padding[0],) * 2, (padding[1],) * 2],
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=_precision(x),
  )


def _product(strides: Pair, x: Array, kernel: Array) -> Array:
  """The 1x1 convolution as a matrix product.

  For the kernel's gradient XLA transposes one of two operands in memory: of a product y's gradient, of a convolution
  (without spatial dimensions the same product) x. So it is the latter where x has much fewer channels: the training
  step of an SE-ResNet-50 takes a sixth less time. Where it has half as many, x is mostly a strided slice, the dearer one.
  """
  x, kernel, precision = x[:, :: strides[0], :: strides[1]], kernel[0, 0], _precision(x)
  channels, features = kernel.shape
  if 2 * channels >= features:
    return jnp.dot(x, kernel, precision=precision)
  order = jax.lax.ConvDimensionNumbers((0, 1), (1, 0), (0, 1))
  y = jax.lax.conv_general_dilated(
    x.reshape(-1, channels), kernel, (), (), dimension_numbers=order, precision=precision
  )
  return y.reshape(*x.shape[:-1], features)


def _precision(x: Array) -> jax.lax.Precision | None:
  return None if x.dtype == jnp.bfloat16 else jax.lax.Precision.HIGHEST


class Conv(nn.Module):
  """A convolution without bias whose output's descriptor can be had with it.

  Attributes:
    features: output channels.
    kernel_size: 1, 3, ...; padding is half of it on every side.
    strides: the same for rows and columns.
    dtype: of the computation; the kernel is kept in at least float32. float32 means full float32 products.
    descriptors: how `with_descriptor` obtains the descriptor.
  """

  features: int
  kernel_size: int = 3
  strides: int = 1
  dtype: jnp.dtype = jnp.float32
  descriptors: Descriptors | None = None

  @nn.compact
  def __call__(self, x: Array, with_descriptor: bool = False):
    """[N, H, W, in] -> y [N, H', W', features], or (y, mean_HW(y) [N, features]) if asked for."""
    k = self.kernel_size
    shape = (k, k, x.shape[-1], self.features)
    kernel = self.param(
      'kernel', initializers.initializer(initializers.conv_kernel), shape, at_least_float32(self.dtype)
    )
    strides, padding = (self.strides,) * 2, (k // 2,) * 2
    x = x.astype(self.dtype)
    y = convolve(x, kernel.astype(self.dtype), strides, padding)
    if not with_descriptor:
      return y
    assert self.descriptors is not None
    return y, self.descriptors.of_conv(x, y, kernel, strides, padding)


class MapConv(nn.Module):
  """The kernel [kh, kw, 1, m] of the map filters."""

  filters: int
  kernel_shape: Pair
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self) -> Array:
    """The kernel itself."""
    rule = initializers.initializer(initializers.map_kernel)
    return self.param('kernel', rule, (*self.kernel_shape, 1, self.filters), self.dtype)


class CollapsedNorm(nn.Module):
  """The parameters and statistics of `BatchNorm`, folded with the map filters into one filter."""

  train: bool
  group_size: int = 0

  @nn.compact
  def __call__(self, image: Array, kernel: Array) -> Array:
    """The mean over filters of the normalized maps of `image` [N, rows, columns], without the maps."""
    filters, dtype = kernel.shape[-1], image.dtype
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (filters,), dtype)
    running_var = self.variable('batch_stats', 'var', jnp.ones, (filters,), dtype)
    scale = self.param('scale', nn.initializers.ones_init(), (filters,), dtype)
    bias = self.param('bias', nn.initializers.zeros_init(), (filters,), dtype)
    shape, kernels = (kernel.shape[0], kernel.shape[1]), kernel.reshape(-1, filters)
    grouped = group(image, self.group_size if self.train else 0)
    if self.train:
      mean, var = imaging.filter_moments(kernels, *imaging.patch_moments(grouped, shape))
      if not self.is_initializing():
        update_running(running_mean, running_var, mean, var)
    else:
      mean, var = running_mean.value[None], running_var.value[None]
    one_kernel, offset = imaging.collapse(kernels, scale, bias, mean, var)
    seen = imaging.apply_filter(grouped, one_kernel, shape) + offset[:, None, None, None]
    return seen.reshape(-1, *seen.shape[2:])


def filter_maps_plain(image: Array, kernel: Array, train: bool, group_size: int) -> Array:
  """The paper's order: m maps by a valid convolution, batch normalization of each, mean over the m maps."""
  maps = jax.lax.conv_general_dilated(
    image[..., None],
    kernel,
    (1, 1),
    'VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=jax.lax.Precision.HIGHEST,
  )
  norm = BatchNorm(train=train, dtype=image.dtype, group_size=group_size, centered=True, name='map_bn')
  return norm(maps).mean(axis=-1)


def filter_maps_exact(image: Array, kernel: Array, train: bool, group_size: int) -> Array:
  """The same numbers, parameters and statistics by one filter; the m maps are never formed."""
  return CollapsedNorm(train=train, group_size=group_size, name='map_bn')(image, kernel)
