"""CMPE-SE with two dense layers that compete."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmpe_jax.models.gates.gate import Gate

Array = jax.Array


class DoubleFC(Gate):
  """CMPE-SE double FC: s = sigmoid(W3 [relu(Wr u); relu(Wi v)])."""

  authors_names = {
    'squeeze_residual': 'net_se_input_conv.1',
    'squeeze_identity': 'net_se_input_x.1',
    'excite': 'net_se.0',
  }

  @nn.compact
  def __call__(self, u: Array, v: Array, train: bool = False) -> Array:
    """[N, C], [N, C] -> [N, C]."""
    residual = nn.relu(self.dense(u, self.squeezed, 'squeeze_residual'))
    identity = nn.relu(self.dense(v, self.squeezed, 'squeeze_identity'))
    return self.excite(jnp.concatenate([residual, identity], axis=-1))
