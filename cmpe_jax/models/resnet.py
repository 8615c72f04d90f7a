"""The networks: a stem, stages of blocks, a classifier."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmpe_jax.models import blocks, gates, initializers, paths, scan
from cmpe_jax.models.descriptors import Descriptors
from cmpe_jax.models.forms import Forms
from cmpe_jax.models.layers import Conv
from cmpe_jax.models.norms import BatchNorm
from cmpe_jax.models.pooling import max_pool
from cmpe_jax.models.precision import at_least_float32

Array = jax.Array
Make = Callable[..., Any]  # a module with most of its attributes given


class ResNet(nn.Module):
  """A ResNet, Wide ResNet or ImageNet ResNet with a gate in every block.

  Attributes:
    stem: 'small' (bn_in, conv3x3), 'wide' (the same, then bn) or 'large' (conv7x7/2, [bn, relu], max-pool 3x3/2).
    stage_sizes: blocks a stage.
    base_widths: c, a stage.
    columns: of the folded map, a stage.
    block: 'basic' or 'bottleneck'.
    preact: pre-activation blocks and a last bn and relu before the classifier.
    gate: a key of `names.GATES`.
    gate_bias: biases in the gate's dense layers.
    num_classes: logits.
    dtype: of convolutions and feature maps.
    forms: how blocks obtain u and v, how gates filter their map.
    dropout: rate, in basic pre-activation blocks.
    blur_pool: strided convolutions of 16 channels or more see a blurred map.
    bn_group_size: examples a batch normalization group; 0: the whole batch.
    zero_scale: zero-initialized last batch normalization of a post-activation branch.
    frozen_stages: the stem and so many stages are as in an evaluation even in training, which has no gradient there.
    scan_blocks: all blocks of a stage but the first run in one loop; the variables are the same.
    remat: a block's inner arrays are computed again for its gradient instead of being kept.
  """

  stem: str
  stage_sizes: tuple[int, ...]
  base_widths: tuple[int, ...]
  columns: tuple[int, ...]
  block: str
  preact: bool
  gate: str
  gate_bias: bool
  num_classes: int
  dtype: jnp.dtype
  forms: Forms
  dropout: float = 0.0
  blur_pool: bool = False
  bn_group_size: int = 0
  zero_scale: bool = False
  frozen_stages: int = 0
  scan_blocks: bool = False
  remat: bool = False

  @nn.compact
  def __call__(self, images: Array, train: bool = False) -> Array:
    """Normalized images [N, H, W, 3] -> logits [N, num_classes] in at least float32."""
    pooling = self.forms.of(train)
    conv = functools.partial(Conv, dtype=self.dtype, descriptors=pooling, blurs=self.blur_pool)
    merges = pooling.merge_mean and not self.remat  # with it, recomputing saved no memory: 1.00 instead of 0.45
    norm = functools.partial(
      BatchNorm, train=train, dtype=self.dtype, group_size=self.bn_group_size, merges_mean=merges
    )
    frozen_norm = functools.partial(norm, train=False)
    stem_norm = frozen_norm if self.frozen_stages else norm
    x = self.embed(images.astype(at_least_float32(self.dtype)), conv, stem_norm, pooling)
    v = None
    for stage, specs in itertools.groupby(self.block_specs(x.shape[-1]), lambda spec: spec['stage']):
      frozen = stage <= self.frozen_stages
      own_norm = frozen_norm if frozen else norm
      make = functools.partial(self.make_block, conv=conv, norm=own_norm, pooling=pooling, train=train and not frozen)
      x, v = self.run_stage(list(specs), make, x, v)
      if frozen and train:  # an evaluation's gradient, of the images say, goes all the way
        x, v = jax.lax.stop_gradient((x, v))
    if self.preact:
      x = norm(name='final_bn')(x, settled=pooling.settle)
      x = nn.relu(x[0] if pooling.settle else x)
    kind = at_least_float32(self.dtype)
    classifier = nn.Dense(
      self.num_classes,
      dtype=kind,
      param_dtype=kind,
      precision=jax.lax.Precision.HIGHEST,
      kernel_init=initializers.dense_kernel,
      bias_init=initializers.zeros,
      name=paths.CLASSIFIER,
    )
    return classifier(jnp.mean(x, axis=(1, 2), dtype=kind))

  def embed(self, images: Array, conv: Make, norm: Make, pooling: Descriptors) -> Array:
    """The stem: [N, H, W, 3] -> [N, H, W, 16], or [N, H/4, W/4, c] for 'large'."""
    if self.stem == 'large':
      x = conv(self.base_widths[0], 7, 2, name='stem')(images, normalized=not self.preact)
      if not self.preact:
        x = nn.relu(norm(name='stem_bn')(x))
      return max_pool(x, pooling.by_winners)
    wide, x = self.stem == 'wide', norm(name='input_bn', affine=False)(images)
    x = conv(16, 3, name='stem')(x, normalized=wide)
    return norm(name='stem_bn')(x) if wide else x

  def block_specs(self, channels: int) -> list[dict[str, Any]]:
    """The constructor arguments that differ between the blocks, in order; `channels`: of the stem's output."""
    specs = []
    for stage, (count, width) in enumerate(zip(self.stage_sizes, self.base_widths, strict=True)):
      out = width * blocks.expansion(self.block)
      for index in range(count):
        strides = 2 if stage > 0 and index == 0 else 1
        project = strides > 1 or channels != out
        specs.append(
          {
            'name': paths.block_name(stage + 1, index),
            'stage': stage + 1,
            'base_width': width,
            'channels': out,
            'strides': strides,
            'project': project,
            'columns': self.columns[stage],
          }
        )
        channels = out
    return specs

  def run_stage(
    self, specs: list[dict[str, Any]], make: Callable[..., blocks.Block], x: Array, v: Array | None
  ) -> tuple[Array, Array | None]:
    """The blocks of a stage one after the other; with `scan_blocks` those after the first, all alike, in a loop.

    The variables are made without a loop, and keep their names.
    """
    looped = self.scan_blocks and len(specs) > 2 and not self.is_initializing()
    for spec in specs[:1] if looped else specs:
      x, v = make(spec)(x, v)
    if looped:
      block = make({**specs[1], 'name': None, 'parent': None})
      x, v = scan.run(self, block, [spec['name'] for spec in specs[1:]], x, v)
    return x, v

  def make_block(self, spec: dict[str, Any], conv: Make, norm: Make, pooling: Descriptors, train: bool) -> blocks.Block:
    """The block of a spec of `block_specs`."""
    spec = dict(spec)
    columns, _ = spec.pop('columns'), spec.pop('stage')
    gate: Callable[..., gates.Gate] | None = gates.find(self.gate)
    if gate is not None:
      gate = functools.partial(
        gate,
        filter_maps=self.forms.filter_maps,
        columns=columns,
        use_bias=self.gate_bias,
        group_size=self.bn_group_size,
      )
    kind = blocks.BLOCKS[self.block, self.preact]
    if self.remat and train:
      kind = nn.remat(kind, prevent_cse=spec['name'] is not None)  # a loop's body is not merged with anything
    return kind(
      conv=conv,
      norm=norm,
      gate=gate,
      descriptors=pooling,
      train=train,
      dropout=self.dropout,
      zero_scale=self.zero_scale,
      **spec,
    )
