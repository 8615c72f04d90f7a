"""The gates: from the descriptors of residual and identity to the channel scale.

Every gate is called as gate(u, v, train) -> s, all [N, C] in at least float32: u = mean_HW(residual),
v = mean_HW(identity), 0 < s < 1 multiplies the residual. No gate sees a feature map.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmpe_jax.models import initializers
from cmpe_jax.models import inner_imaging as imaging
from cmpe_jax.models.layers import FilterMaps, MapConv

Array = jax.Array
REDUCTION = 16


class Gate(nn.Module):
  """What all gates share.

  Attributes:
    channels: C, of the block's output; h = C/16 squeezed units.
    base_width: c, of the stage; m = c/16 map filters.
    filter_maps: `filter_maps_plain` or `filter_maps_exact`.
    columns: of the folded map.
    use_bias: biases in the dense layers (timm's SE has them, the paper has not).
    group_size: examples a group of the map's batch normalization; 0: the whole batch.
  """

  channels: int
  base_width: int
  filter_maps: FilterMaps
  columns: int = 16
  use_bias: bool = False
  group_size: int = 0

  @property
  def squeezed(self) -> int:
    """h, at least 1."""
    return max(1, self.channels // REDUCTION)

  @property
  def filters(self) -> int:
    """m, at least 1."""
    return max(1, self.base_width // REDUCTION)

  def dense(self, x: Array, features: int, name: str) -> Array:
    """A dense layer [N, in] -> [N, features] in full precision."""
    layer = nn.Dense(
      features,
      use_bias=self.use_bias,
      dtype=x.dtype,
      param_dtype=x.dtype,
      precision=jax.lax.Precision.HIGHEST,
      kernel_init=initializers.initializer(initializers.dense_kernel),
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


class SqueezeExcite(Gate):
  """SE (Hu et al. 2018): s = sigmoid(W2 relu(W1 u)); the identity is not looked at."""

  @nn.compact
  def __call__(self, u: Array, v: Array, train: bool) -> Array:
    """[N, C], [N, C] -> [N, C]."""
    return self.excite(nn.relu(self.dense(u, self.squeezed, 'squeeze')))


class DoubleFC(Gate):
  """CMPE-SE double FC: s = sigmoid(W3 [relu(Wr u); relu(Wi v)])."""

  @nn.compact
  def __call__(self, u: Array, v: Array, train: bool) -> Array:
    """[N, C], [N, C] -> [N, C]."""
    residual = nn.relu(self.dense(u, self.squeezed, 'squeeze_residual'))
    identity = nn.relu(self.dense(v, self.squeezed, 'squeeze_identity'))
    return self.excite(jnp.concatenate([residual, identity], axis=-1))


class PairView(Gate):
  """CMPE-SE pair view: filters over the map [N, C, 2] of columns (u, v).

  Attributes:
    span: 1: filters of one value ("conv 1x1", 2C values go on); 2: filters of a pair ("conv 2x1", C values go on).
  """

  span: int = 1

  @nn.compact
  def __call__(self, u: Array, v: Array, train: bool) -> Array:
    """[N, C], [N, C] -> [N, C]."""
    return self.gate_from_map(self.read_map(imaging.pair_map(u, v), (1, self.span), train))


class FoldedInnerImaging(Gate):
  """CMPE-SE folded inner imaging: 3x3 filters over the map [N, 2C/L, L] whose rows alternate u and v."""

  @nn.compact
  def __call__(self, u: Array, v: Array, train: bool) -> Array:
    """[N, C], [N, C] -> [N, C]."""
    return self.gate_from_map(self.read_map(imaging.fold(u, v, self.columns), (3, 3), train))


def pair_1x1(**kwargs) -> Gate:
  """`PairView` with filters of one value."""
  return PairView(span=1, **kwargs)


def pair_2x1(**kwargs) -> Gate:
  """`PairView` with filters of a (residual, identity) pair."""
  return PairView(span=2, **kwargs)


GATES: dict[str, Callable[..., Gate] | None] = {
  'none': None,
  'se': SqueezeExcite,
  'double_fc': DoubleFC,
  'pair_1x1': pair_1x1,
  'pair_2x1': pair_2x1,
  'folded_3x3': FoldedInnerImaging,
}
