"""What all gates share.

Every gate is called as gate(u, v, train) -> s, all [N, C] in at least float32: u = mean_HW(residual),
v = mean_HW(identity), 0 < s < 1 multiplies the residual. No gate sees a feature map.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cmpe_jax.errors import UserError
from cmpe_jax.models import initializers
from cmpe_jax.models.map_filters import FilterMaps, MapConv, filter_maps_fused
from cmpe_jax.models.precision import at_least_float32

Array = jax.Array
REDUCTION = 16


def _given_descriptors(call: Callable[..., Array]) -> Callable[..., Array]:
  """The `__call__` of a gate, which it gets as it may rely on: u and v [N, channels], both of one type."""

  @functools.wraps(call)
  def checked(self: Any, u: Array, v: Array, train: bool = False) -> Array:
    shapes = jnp.shape(u), jnp.shape(v)
    if shapes[0] != shapes[1] or shapes[0][1:] != (self.channels,):
      raise UserError(
        f'a gate of {self.channels} channels was given u {list(shapes[0])} and v {list(shapes[1])}: give the spatial '
        f'means of residual and identity, [N, {self.channels}] both.'
      )
    kind = at_least_float32(jnp.result_type(u, v))
    return call(self, jnp.asarray(u, kind), jnp.asarray(v, kind), train)

  return checked


class Gate(nn.Module):
  """The base class of gates: layers that several of them have, and what tools ask of one.

  Whatever the type of u and v, `__call__` of a gate gets them in at least float32, the type of its parameters and
  statistics. It raises `UserError` unless both are [N, channels].

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

  def __init_subclass__(cls, **keywords: Any) -> None:
    """A class that is called itself is called with descriptors."""
    if '__call__' in vars(cls):
      cls.__call__ = _given_descriptors(vars(cls)['__call__'])  # type: ignore[method-assign]
    super().__init_subclass__(**keywords)

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
    values = filtered.reshape(filtered.shape[0], math.prod(filtered.shape[1:]))  # no -1, for an empty batch
    return self.excite(nn.relu(self.dense(values, self.squeezed, 'squeeze')))


MAP_NAMES = {'map_conv': 'Multi_Map.0', 'map_bn': 'Multi_Map.1', 'squeeze': 'net_SE.1', 'excite': 'net_SE.2'}
"""`Gate.authors_names` of the gates that read a map."""
