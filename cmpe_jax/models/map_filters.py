"""The map filters of a gate: m small convolutions, batch normalization, and the mean over the m, in two forms."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmpe_jax.models import initializers
from cmpe_jax.models import inner_imaging as imaging
from cmpe_jax.models.groups import group
from cmpe_jax.models.norms import BatchNorm, update_running

Array = jax.Array
FilterMaps = Callable[[Array, Array, bool, int], Array]  # (image, kernel, train, group_size) -> filtered


class MapConv(nn.Module):
  """The kernel [kh, kw, 1, m] of the map filters."""

  filters: int
  kernel_shape: tuple[int, int]
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self) -> Array:
    """The kernel itself."""
    return self.param('kernel', initializers.map_kernel, (*self.kernel_shape, 1, self.filters), self.dtype)


class CollapsedNorm(nn.Module):
  """The parameters and statistics of `BatchNorm`, folded with the map filters into one filter."""

  train: bool
  group_size: int = 0

  @nn.compact
  def __call__(self, image: Array, kernel: Array) -> Array:
    """The mean over filters of the normalized maps of `image` [N, rows, columns], without the maps."""
    filters, dtype = kernel.shape[-1], image.dtype
    running_mean = self.variable('batch_stats', 'mean', initializers.zeros, None, (filters,), dtype)
    running_var = self.variable('batch_stats', 'var', initializers.ones, None, (filters,), dtype)
    scale = self.param('scale', initializers.ones, (filters,), dtype)
    bias = self.param('bias', initializers.zeros, (filters,), dtype)
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
    return seen.reshape(image.shape[0], *seen.shape[2:])


def filter_maps_reference(image: Array, kernel: Array, train: bool, group_size: int) -> Array:
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


def filter_maps_fused(image: Array, kernel: Array, train: bool, group_size: int) -> Array:
  """The same numbers, parameters and statistics by one filter; the m maps are never formed."""
  return CollapsedNorm(train=train, group_size=group_size, name='map_bn')(image, kernel)
