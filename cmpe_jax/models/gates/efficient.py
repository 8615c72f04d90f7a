"""Efficient channel attention: a gate of a handful of parameters."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmpe_jax.models import initializers
from cmpe_jax.models.gates.gate import Gate

Array = jax.Array


class EfficientChannelAttention(Gate):
  """ECA (Wang et al. 2020, arXiv 1910.03151): s = sigmoid(w * u), a convolution along the channels.

  The filter spans k = (log2(C) + 1) / 2 channels, cut to a whole number and made odd (the next one), at least 3 as in
  timm; beyond the first and the last channel lie zeros. The identity is not looked at.
  """

  @property
  def span(self) -> int:
    """k."""
    return max(3, int((math.log2(self.channels) + 1) / 2) | 1)

  @nn.compact
  def __call__(self, u: Array, v: Array, train: bool = False) -> Array:
    """[N, C], [N, C] -> [N, C]."""
    kernel = self.param('kernel', initializers.dense_kernel, (self.span,), u.dtype)
    padded = jnp.pad(u, ((0, 0), (self.span // 2, self.span // 2)))
    return nn.sigmoid(sum(kernel[i] * padded[:, i : i + self.channels] for i in range(self.span)))
