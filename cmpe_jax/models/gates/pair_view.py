"""CMPE-SE pair view: the descriptors side by side as an image of two columns."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cmpe_jax.models import inner_imaging as imaging
from cmpe_jax.models.gates.gate import MAP_NAMES, Gate

Array = jax.Array


class PairView(Gate):
  """Filters over the map [N, C, 2] of columns (u, v).

  Attributes:
    span: 1: filters of one value ("conv 1x1", 2C values go on); 2: filters of a pair ("conv 2x1", C values go on).
  """

  span: int = 1
  authors_names = MAP_NAMES

  @nn.compact
  def __call__(self, u: Array, v: Array, train: bool = False) -> Array:
    """[N, C], [N, C] -> [N, C]."""
    return self.gate_from_map(self.read_map(imaging.pair_map(u, v), (1, self.span), train))


class PairView1x1(PairView):
  """`PairView` with filters of one value."""

  span: int = 1

  @staticmethod
  def picture(filtered: np.ndarray, columns: int) -> np.ndarray:
    """[N, C, 2], folded as the map is."""
    u, v = jnp.moveaxis(jnp.asarray(filtered), -1, 0)
    return np.asarray(imaging.fold(u, v, columns))


class PairView2x1(PairView):
  """`PairView` with filters of a (residual, identity) pair."""

  span: int = 2

  @staticmethod
  def picture(filtered: np.ndarray, columns: int) -> np.ndarray:
    """[N, C, 1]: a row of it is of a pair of rows of the map."""
    return filtered.reshape(len(filtered), -1, columns)
