"""Batch normalization that also maps descriptors, and its result before it is written down."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmpe_jax.models import initializers
from cmpe_jax.models.expansion import Expansion
from cmpe_jax.models.folding import Convolution
from cmpe_jax.models.groups import example_rows, group
from cmpe_jax.models.inner_imaging import EPSILON
from cmpe_jax.models.precision import at_least_float32

Array = jax.Array
MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Normalized:
  """gain * (x - mean) + offset, the output of a batch normalization, before anything of its size is computed.

  Attributes:
    x: [N, H, W, C], the input.
    mean: [N, C]; the examples of a group have equal rows.
    gain: [N, C]; likewise.
    offset: [C].
    merges_mean: see `BatchNorm`.
  """

  x: Array
  mean: Array
  gain: Array
  offset: Array
  merges_mean: bool = False

  @property
  def dtype(self) -> jnp.dtype:
    """That the computed output is to have."""
    return self.x.dtype

  def scaled(self, scale: Array | None = None) -> Array:
    """`scale` [N, C] times the output, [N, H, W, C], in the type of the statistics.

    Written as one affine map an example, whose coefficients carry all gradients but that of x: the gradients of scale,
    gain, offset and mean then all come from two sums over the pixels of each example, of dy and of dy * (x - mean),
    which need one pass over the feature map. What is subtracted before the product, the mean or nothing, is a constant
    to the gradient, which goes through the offset.
    """
    mean = None if self.merges_mean else jax.lax.stop_gradient(self.mean)
    gain, offset = self.gain, self.offset - self.gain * (self.mean if mean is None else self.mean - mean)
    if scale is not None:
      gain, offset = scale * gain, scale * offset
    x = self.x.astype(gain.dtype)
    x = x if mean is None else x - mean[:, None, None]
    return x * gain[:, None, None] + offset[:, None, None]


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
    merges_mean: the output is gain * x + (offset - gain * mean), not gain * (x - mean) + offset: a CPU would write
      down x - mean for the gradient.
    scale_init: initial scale.
  """

  train: bool
  dtype: jax.typing.DTypeLike = jnp.float32
  group_size: int = 0
  affine: bool = True
  centered: bool = False
  merges_mean: bool = False
  scale_init: Callable = initializers.ones

  @nn.compact
  def __call__(self, x: Any, descriptor: Array | None = None, deferred: bool = False, settled: bool = False) -> Any:
    """[N, ..., C] -> y of the same shape; with a descriptor d [N, C] of x also the descriptor of y: (y, [N, C]).

    `deferred`, in training: (a `Normalized`, its descriptor), from the moments of each example. `settled`: (y, x), x as
    an array that has been written after its moments were taken. x can be an `Expansion`, given with its descriptor,
    which gives (the normalized `Expansion`, its descriptor), or a `Convolution`.
    """
    kind, channels = at_least_float32(self.dtype), x.shape[-1]
    running_mean = self.variable('batch_stats', 'mean', initializers.zeros, None, (channels,), kind)
    running_var = self.variable('batch_stats', 'var', initializers.ones, None, (channels,), kind)
    if isinstance(x, Convolution) and self.train:
      x = x.computed()
    if self.train:
      if isinstance(x, Expansion):
        center = group(x.pooled, self.group_size).mean(1)
        mean, var = x.moments(center)
      elif settled:
        x, mean, square = with_moments(x, self.group_size)
        var = _variance(mean, square)
      elif deferred:
        descriptor, squares = x.mean((1, 2), dtype=kind), jnp.square(x.astype(kind)).mean((1, 2))
        mean, var = self.moments(descriptor, squares)
      else:
        mean, var = self.moments(x.astype(kind))
      if not self.is_initializing():
        update_running(running_mean, running_var, mean, var)
    else:
      mean, var = running_mean.value[None], running_var.value[None]
    gain = jax.lax.rsqrt(var + EPSILON)
    offset = jnp.zeros((channels,), kind)
    if self.affine:
      gain = gain * self.param('scale', self.scale_init, (channels,), kind)
      offset = self.param('bias', initializers.zeros, (channels,), kind)

    def normalize(z: Any) -> Array:
      wide = functools.partial(jnp.expand_dims, axis=tuple(range(1, z.ndim)))
      groups = z.reshape(len(mean), -1, *z.shape[1:]).astype(kind)
      if self.merges_mean:
        return (groups * wide(gain) + wide(offset - gain * mean)).reshape(z.shape)
      return ((groups - wide(mean)) * wide(gain) + offset).reshape(z.shape)

    if isinstance(x, Convolution):
      return x.normalized(mean[0], gain[0], offset)
    if isinstance(x, Expansion):
      if self.train:
        return dataclasses.replace(x, mean=center, gain=gain, offset=offset), normalize(descriptor)
      return dataclasses.replace(x, gain=gain, offset=offset - gain * mean), normalize(descriptor)
    if deferred:
      mean_rows, gain_rows = (example_rows(values, len(x)) for values in (mean, gain))
      return Normalized(x, mean_rows, gain_rows, offset, self.merges_mean), normalize(descriptor)
    y = normalize(x).astype(self.dtype)
    if settled:
      return y, x
    return y if descriptor is None else (y, normalize(descriptor))

  def moments(self, x: Array, squares: Array | None = None) -> tuple[Array, Array]:
    """Mean and biased variance [G, C] of each group of x [N, ..., C]; `squares`: x^2, if x is not all there is."""
    grouped = group(x, self.group_size)
    axes = tuple(range(1, grouped.ndim - 1))
    mean = grouped.mean(axes)
    if self.centered:
      return mean, jnp.square(grouped - jnp.expand_dims(mean, axes)).mean(axes)
    square = jnp.square(grouped) if squares is None else group(squares, self.group_size)
    return mean, _variance(mean, square.mean(axes))


def _variance(mean: Array, square: Array) -> Array:
  return jnp.maximum(square - jnp.square(mean), 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def with_moments(x: Array, group_size: int) -> tuple[Array, Array, Array]:
  """x, written in its own type, and the means of its groups and of their squares [G, C], taken in that pass.

  XLA would keep the sum that x is in float32, twice the bytes of bfloat16, and in the gradient of the moments it would
  add it up anew from what it is a sum of, all of which would be kept. That gradient reads what was written.
  """
  grouped = group(x.astype(at_least_float32(x.dtype)), group_size)
  axes = tuple(range(1, grouped.ndim - 1))
  return jax.lax.optimization_barrier(x), grouped.mean(axes), jnp.square(grouped).mean(axes)


def _moments_forward(x: Array, group_size: int) -> tuple[tuple[Array, Array, Array], Array]:
  found = with_moments(x, group_size)
  return found, found[0]


def _moments_backward(group_size: int, x: Array, gradients: tuple[Array, Array, Array]) -> tuple[Array]:
  of_x, of_mean, of_square = gradients
  grouped = group(x.astype(of_mean.dtype), group_size)
  axes = tuple(range(1, grouped.ndim - 1))
  count = grouped.size // of_mean.size
  of_moments = (jnp.expand_dims(of_mean, axes) + 2 * grouped * jnp.expand_dims(of_square, axes)) / count
  return ((of_x.astype(of_mean.dtype) + of_moments.reshape(x.shape)).astype(x.dtype),)


with_moments.defvjp(_moments_forward, _moments_backward)


def update_running(running_mean: nn.Variable, running_var: nn.Variable, mean: Array, var: Array) -> None:
  """running = 0.9 running + 0.1 batch, the groups of [G, C] averaged."""
  running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * mean.mean(0)
  running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * var.mean(0)
