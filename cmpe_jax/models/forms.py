"""Which form computes a network: chosen here, by back end, order of activation and gate, in training and at inference.

All forms give the same numbers, from the same parameters. What each saves, in bytes, stands in docs/speed.md.
"""

import dataclasses

from cmpe_jax.models import map_filters
from cmpe_jax.models.descriptors import FUSED, REFERENCE, Descriptors
from cmpe_jax.models.map_filters import FilterMaps

EVERY = ('reference on cpu', 'fused on cpu', 'fused on gpu', 'fused on tpu')  # that differ, the oracle first


@dataclasses.dataclass(frozen=True)
class Forms:
  """How blocks pool in training and at inference, and how gates filter."""

  train: Descriptors
  infer: Descriptors
  filter_maps: FilterMaps

  def of(self, train: bool) -> Descriptors:
    """Those of a mode."""
    return self.train if train else self.infer


def choose(form: str, platform: str, gated: bool, preact: bool) -> Forms:
  """The forms of a network.

  Args:
    form: of `names.GATE_FORMS`.
    platform: 'cpu', 'gpu' or 'tpu', as JAX calls a device's.
    gated: whether its blocks have gates.
    preact: the order of activation.
  """
  if form == 'reference':
    return Forms(REFERENCE, REFERENCE, map_filters.filter_maps_reference)
  train, infer = FUSED, FUSED
  if platform == 'cpu':
    # The first saves 3 to 6 % of a ResNet-50's step, 13 % of a ResNet-20's on 32x32; the second 2 % of a ResNet-50's.
    train = dataclasses.replace(FUSED, merge_mean=True, by_winners=True)
  elif platform == 'gpu':
    train, infer = _train_on_gpu(gated, preact), _infer_on_gpu(gated, preact)
  elif platform == 'tpu':
    train = _train_on_tpu(gated, preact)
  return Forms(train, infer, map_filters.filter_maps_fused)


def _train_on_gpu(gated: bool, preact: bool) -> Descriptors:
  """A GPU's compiler fuses nothing into a convolution, so that a map saved is a map saved.

  GB that a ResNet-50's step moves, batch 256, on an H100: post-activation 101.23 -> 92.22 without a gate, 104.32 ->
  95.22 with `pair_1x1`; pre-activation 119.70 -> 98.24 with it.
  """
  if not preact:
    return dataclasses.replace(FUSED, expand=True, carry_relu=True)
  if not gated:
    return FUSED
  # Stage 4 (10 channels a pixel) is a convolution: 0.1 GB less at the peak, of 11.2, for 0.3 GB moved. Stage 3 (1.3)
  # would be 0.6 GB less for 1.0 GB moved.
  return dataclasses.replace(FUSED, expand=True, convolve=8, settle=True, share_sums=True)


def _train_on_tpu(gated: bool, preact: bool) -> Descriptors:
  """A TPU's compiler fuses into convolutions, whose layouts of operands cost least.

  GB that a ResNet-50's step moves, batch 64, on a v5e: post-activation 32.71 -> 28.18 without a gate, 33.15 -> 30.56
  with `pair_1x1`; pre-activation 30.81 -> 30.13 with it.
  """
  if preact:
    return dataclasses.replace(FUSED, expand=True, convolve=0) if gated else FUSED
  return dataclasses.replace(FUSED, expand=True, convolve=0, carry_relu=gated)


def _infer_on_gpu(gated: bool, preact: bool) -> Descriptors:
  """GB at batch 256: 23.79 -> 14.87 (post) and 20.42 (pre) without a gate, 27.22 -> 21.83, 27.68 -> 23.53 with one."""
  return dataclasses.replace(FUSED, fold=True, carry_relu=gated and not preact, apart=gated and preact)
