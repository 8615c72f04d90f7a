"""CMPE-SE folded inner imaging: the descriptors as an image whose rows alternate."""

import flax.linen as nn
import jax

from cmpe_jax.errors import UserError
from cmpe_jax.models import inner_imaging as imaging
from cmpe_jax.models.gates.gate import MAP_NAMES, Gate

Array = jax.Array


class FoldedInnerImaging(Gate):
  """3x3 filters over the map [N, 2C/L, L] whose rows alternate u and v."""

  authors_names = MAP_NAMES

  @classmethod
  def check_shape(cls, channels: int, columns: int) -> None:
    """Raises `UserError` unless [2 channels / columns, columns] is an image that a valid 3x3 filter can read."""
    if channels % columns:
      raise UserError(
        f"gate='folded_3x3' cannot fold channels={channels} into columns={columns}: set columns, model.fold_columns in "
        f'a configuration, to a divisor of {channels}, or take another gate.'
      )
    rows = 2 * channels // columns
    if rows < 3 or columns < 3:
      raise UserError(
        f"gate='folded_3x3' would fold channels={channels} into a map of {rows}x{columns}, smaller than its 3x3 "
        'filter: set columns, model.fold_columns in a configuration, so that both sides are at least 3, or take '
        'another gate.'
      )

  @nn.compact
  def __call__(self, u: Array, v: Array, train: bool = False) -> Array:
    """[N, C], [N, C] -> [N, C]."""
    return self.gate_from_map(self.read_map(imaging.fold(u, v, self.columns), (3, 3), train))
