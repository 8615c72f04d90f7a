"""Gather-excite without parameters: what a gate is worth that learns nothing."""

import flax.linen as nn
import jax

from cmpe_jax.models.gates.gate import Gate

Array = jax.Array


class GatherExcite(Gate):
  """GE without parameters (Hu et al. 2018, arXiv 1810.12348), gathered from the whole map: s = sigmoid(u)."""

  def __call__(self, u: Array, v: Array, train: bool = False) -> Array:
    """[N, C], [N, C] -> [N, C]; the identity is not looked at."""
    return nn.sigmoid(u)
