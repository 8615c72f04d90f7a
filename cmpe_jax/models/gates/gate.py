"""What all gates share.

Every gate is called as gate(u, v, train) -> s, all [N, C] in at least float32: u = mean_HW(residual),
v = mean_HW(identity), 0 < s < 1 multiplies the residual. No gate sees a feature map.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import numpy as np

from cmpe_jax.models import initializers
from cmpe_jax.models.map_filters import FilterMaps, MapConv, filter_maps_fused

Array = jax.Array
REDUCTION = 16


class Gate(nn.Module):
  """The base class of gates: layers that several of them have, and what tools ask of one.

  Attributes:
    channels: C, of the block's output; h = C/16 squeezed units.
    base_width: c, of the stage; m = c/16 map filters. 0: C, as in a basic block.
    filter_maps: `filter_maps_reference` or `filter_maps_fused`.
    columns: of the folded map.
    use_bias: biases in the dense layers (timm's SE has them, the paper has not).
    group_size: examples a group of the map's batch normalization; 0: the whole batch.
  """

  channels: int
  base_width: int = 0
  filter_maps: FilterMaps = filter_maps_fused
  columns: int = 16
  use_bias: bool = False
  group_size: int = 0

  # What the authors' parameter files call its modules, for `tools.convert gluon`; empty: they have no such gate.
  authors_names: ClassVar[dict[str, str]] = {}

  @classmethod
  def check_shape(cls, channels: int, columns: int) -> None:
    """Raises `UserError` if the gate cannot read descriptors of so many channels, folded into so many columns."""

  @staticmethod
  def picture(filtered: np.ndarray, columns: int) -> np.ndarray:
    """The sown `filtered_map`, [N, ...], laid out as the map of `inner_imaging.fold` with so many columns is."""
    del columns
    return filtered

  @property
  def squeezed(self) -> int:
    """h, at least 1."""
    return max(1, self.channels // REDUCTION)

  @property
  def filters(self) -> int:
    """m, at least 1."""
    return max(1, (self.base_width or self.channels) // REDUCTION)

  def dense(self, x: Array, features: int, name: str) -> Array:
    """A dense layer [N, in] -> [N, features] in full precision."""
    layer = nn.Dense(
      features,
      use_bias=self.use_bias,
      dtype=x.dtype,
      param_dtype=x.dtype,
      precision=jax.lax.Precision.HIGHEST,
      kernel_init=initializers.dense_kernel,
      bias_init=initializers.zeros,
      name=name,
    )
    return layer(x)

  def excite(self, squeezed: Array) -> Array:
    """sigmoid(W q): [N, h] or [N, 2h] -> the scale [N, C]."""
    return nn.sigmoid(self.dense(squeezed, self.channels, 'excite'))

  def read_map(self, image: Array, kernel_shape: tuple[int, int], train: bool) -> Array:
    """Map filters, batch normalization and mean over the filters: [N, rows, columns] -> [N, rows', columns']."""
    kernel = MapConv(self.filters, kernel_shape, image.dtype, name='map_conv')()
    filtered = self.filter_maps(image, kernel, train, self.group_size)
    self.sow('intermediates', 'map', image)
    self.sow('intermediates', 'filtered_map', filtered)
    return filtered

  def gate_from_map(self, filtered: Array) -> Array:
    """s = sigmoid(W2 relu(W1 flatten(map))), rows first."""
    return self.excite(nn.relu(self.dense(filtered.reshape(filtered.shape[0], -1), self.squeezed, 'squeeze')))


MAP_NAMES = {'map_conv': 'Multi_Map.0', 'map_bn': 'Multi_Map.1', 'squeeze': 'net_SE.1', 'excite': 'net_SE.2'}
"""`Gate.authors_names` of the gates that read a map."""
