"""Convolution, batch normalization and the map filters: the layers that know how to give a descriptor."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmpe_jax.errors import UserError
from cmpe_jax.models import initializers
from cmpe_jax.models import inner_imaging as imaging
from cmpe_jax.models.descriptors import Descriptors

Array = jax.Array
Pair = tuple[int, int]
FilterMaps = Callable[[Array, Array, bool, int], Array]
MOMENTUM = 0.9
EPSILON = imaging.EPSILON


def at_least_float32(dtype) -> jnp.dtype:
  """float64 for float64, else float32: the type of parameters, statistics, descriptors, gate and logits."""
  return jnp.promote_types(dtype, jnp.float32)


def convolve(x: Array, kernel: Array, strides: Pair, padding: Pair) -> Array:
  """A convolution without bias, NHWC, `padding` zeros on both sides ('SAME' differs at stride 2)."""
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    strides,
    [(padding[0],) * 2, (padding[1],) * 2],
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=None if x.dtype == jnp.bfloat16 else jax.lax.Precision.HIGHEST,
  )


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


class BatchNorm(nn.Module):
  """Batch normalization: epsilon 1e-5, biased variance, running = 0.9 running + 0.1 batch.

  Under `jit` the batch is the global one, whatever the number of devices. With `group_size` the statistics are those of
  groups of that many consecutive examples, and the running statistics take the groups' average.
  Flax's `nn.BatchNorm` has the same parameters and values, but neither groups nor the map of a descriptor.

  Attributes:
    train: batch statistics (and an update of the running ones) instead of the running statistics.
    dtype: of the output; statistics and the affine map are computed in at least float32.
    group_size: 0: the whole batch.
    affine: whether there are a learned scale and bias.
    centered: variance in a second pass over centered values instead of mean(x^2) - mean(x)^2.
    scale_init: initial scale.
  """

  train: bool
  dtype: jnp.dtype = jnp.float32
  group_size: int = 0
  affine: bool = True
  centered: bool = False
  scale_init: Callable = nn.initializers.ones_init()

  @nn.compact
  def __call__(self, x: Array, descriptor: Array | None = None):
    """[N, ..., C] -> y of the same shape; with a descriptor d [N, C] of x also the descriptor of y: (y, [N, C])."""
    kind, channels = at_least_float32(self.dtype), x.shape[-1]
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,), kind)
    running_var = self.variable('batch_stats', 'var', jnp.ones, (channels,), kind)
    if self.train:
      grouped = group(x.astype(kind), self.group_size)
      axes = tuple(range(1, grouped.ndim - 1))
      mean = grouped.mean(axes)
      if self.centered:
        var = jnp.square(grouped - jnp.expand_dims(mean, axes)).mean(axes)
      else:
        var = jnp.maximum(jnp.square(grouped).mean(axes) - jnp.square(mean), 0)
      if not self.is_initializing():
        update_running(running_mean, running_var, mean, var)
    else:
      mean, var = running_mean.value[None], running_var.value[None]
    gain = jax.lax.rsqrt(var + EPSILON)
    offset = jnp.zeros((channels,), kind)
    if self.affine:
      gain = gain * self.param('scale', self.scale_init, (channels,), kind)
      offset = self.param('bias', nn.initializers.zeros_init(), (channels,), kind)

    def normalize(z: Array) -> Array:
      axes = tuple(range(1, z.ndim))
      groups = z.reshape(len(mean), -1, *z.shape[1:])
      centered = groups.astype(kind) - jnp.expand_dims(mean, axes)
      return (centered * jnp.expand_dims(gain, axes) + offset).reshape(z.shape)

    y = normalize(x).astype(self.dtype)
    return y if descriptor is None else (y, normalize(descriptor))


def group(x: Array, size: int) -> Array:
  """[N, ...] -> [N / size, size, ...]; size 0: one group. Raises `UserError` if N is not a multiple of size."""
  if size and x.shape[0] % size:
    raise UserError(f'bn_group_size={size} does not divide the batch of {x.shape[0]}: choose a divisor, or 0.')
  return x.reshape(-1, size or x.shape[0], *x.shape[1:])


def update_running(running_mean, running_var, mean: Array, var: Array) -> None:
  """running = 0.9 running + 0.1 batch, the groups of [G, C] averaged."""
  running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * mean.mean(0)
  running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * var.mean(0)


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
