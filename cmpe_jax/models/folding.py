"""A convolution that a batch normalization follows, before it is computed."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Convolution:
  """conv(x, kernel). At inference its normalization is a gain, which the kernel takes, and an offset.

  cuDNN adds the offset, another map and a ReLU to what it computes, if all of them have the type of the map.

  Attributes:
    x: [N, H, W, c].
    kernel: [kh, kw, c, C], of parameters' type.
    strides: of the convolution.
    padding: zeros on each side, rows and columns.
    convolve: the function that computes it.
  """

  x: Array
  kernel: Array
  strides: Pair
  padding: Pair
  convolve: Callable[[Array, Array, Pair, Pair], Array]

  @property
  def shape(self) -> tuple[int, ...]:
    """Of the output, as far as a normalization needs it: its last axis is the channels."""
    return self.kernel.shape

  def computed(self) -> Array:
    """[N, H', W', C], of the type of x."""
    return self.convolve(self.x, self.kernel.astype(self.x.dtype), self.strides, self.padding)

  def normalized(self, mean: Array, gain: Array, offset: Array) -> Array:
    """gain * (conv(x, kernel) - mean) + offset, all [C]; [N, H', W', C], of the type of x."""
    y = self.convolve(self.x, (self.kernel * gain).astype(self.x.dtype), self.strides, self.padding)
    return y + (offset - gain * mean).astype(jnp.dtype(self.x.dtype))
