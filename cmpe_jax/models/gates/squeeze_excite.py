"""Squeeze-and-excitation: the gate that does not look at the identity."""

import flax.linen as nn
import jax

from cmpe_jax.models.gates.gate import Gate

Array = jax.Array


class SqueezeExcite(Gate):
  """SE (Hu et al. 2018): s = sigmoid(W2 relu(W1 u)); the identity is not looked at."""

  authors_names = {'squeeze': 'net_se_conv.1', 'excite': 'net_se_conv.3'}

  @nn.compact
  def __call__(self, u: Array, v: Array, train: bool = False) -> Array:
    """[N, C], [N, C] -> [N, C]."""
    return self.excite(nn.relu(self.dense(u, self.squeezed, 'squeeze')))
