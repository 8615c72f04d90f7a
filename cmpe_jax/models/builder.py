"""`build(config.model)`: from configuration to network, with errors that say what is allowed."""

import jax
import jax.numpy as jnp
import ml_collections

from cmpe_jax import names
from cmpe_jax.config import check_model
from cmpe_jax.errors import UserError, check_choice, check_range
from cmpe_jax.models import blocks, forms, gates
from cmpe_jax.models.resnet import ResNet

IMAGENET_STAGES = {
  'basic': {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)},
  'bottleneck': {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)},
}

PLATFORMS = ('cpu', 'gpu', 'tpu')  # that forms are chosen for


def build(
  config: ml_collections.ConfigDict,
  dtype: str = 'float32',
  bn_group_size: int = 0,
  frozen_stages: int = 0,
  remat: bool = False,
  platform: str | None = None,
) -> ResNet:
  """The network of `config.model`.

  Args:
    config: the keys of `cmpe_jax.keys.MODEL`; `num_classes` must be set.
    dtype: 'float32', 'bfloat16' or 'float64' (or JAX's type of that name), of convolutions and feature maps.
    bn_group_size: examples a batch normalization group in training; 0: the whole global batch.
    frozen_stages: the stem and so many stages that training leaves as they are.
    remat: the gradient of a block computes its inner arrays again.
    platform: 'cpu', 'gpu' ('cuda' and 'rocm' are one) or 'tpu', for which the form is chosen (any form runs anywhere),
      or another that JAX has here; None: JAX's default.

  Raises:
    UserError: keys that are not those of a network, an unknown name, a value out of range, a depth without such a net,
      a fold that the maps do not allow.
  """
  check_model(config)
  if not config.num_classes:
    raise UserError(
      'model.num_classes=0 means "as the dataset has", but no dataset is given here: set the number of classes.'
    )
  stem, sizes, widths = _stages(config)
  check_range('bn_group_size', bn_group_size, 0)
  check_range('freeze', frozen_stages, 0, len(sizes))
  form = str(names.current('model.gate_form', config.gate_form))
  chosen = forms.choose(form, _platform(platform), gates.find(config.gate) is not None, config.preact)
  return ResNet(
    stem=stem,
    stage_sizes=sizes,
    base_widths=widths,
    columns=_fold_columns(config, widths),
    block=config.block,
    preact=config.preact,
    gate=config.gate,
    gate_bias=config.gate_bias,
    num_classes=config.num_classes,
    dtype=_dtype(dtype),
    forms=chosen,
    dropout=config.dropout,
    blur_pool=config.blur_pool,
    bn_group_size=bn_group_size,
    zero_scale=config.zero_init,
    frozen_stages=frozen_stages,
    scan_blocks=config.scan_blocks,
    remat=remat,
  )


def of_run(config: ml_collections.ConfigDict, platform: str | None = None) -> ResNet:
  """The network that a run of the whole (resolved) configuration trains. Raises `UserError` as `build`."""
  return build(config.model, config.dtype, config.bn_group_size, config.freeze, config.remat, platform)


def _dtype(given: str) -> jnp.dtype:
  """The type of convolutions and feature maps. Raises `UserError` if it is none of `names.DTYPES`."""
  try:
    name = jnp.dtype(given).name
  except TypeError:
    name = given
  check_choice('dtype', name, names.DTYPES)
  return jnp.dtype(name)


def _platform(given: str | None) -> str:
  """The platform as JAX calls a device's, GPUs of all makers alike. Raises `UserError` if JAX does not know it."""
  if not given:
    return jax.default_backend()
  if given in ('cuda', 'rocm'):  # what lowering calls them
    return 'gpu'
  if given not in PLATFORMS:
    try:
      jax.devices(given)  # a plug-in's
    except RuntimeError:
      check_choice('platform', given, (*PLATFORMS, 'cuda', 'rocm'))
  return given


def _stages(config: ml_collections.ConfigDict) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
  """Stem, blocks a stage, base width a stage."""
  if config.dropout and (config.block != 'basic' or not config.preact):
    raise UserError(
      f'model.dropout={config.dropout} acts in pre-activation basic blocks only (Wide ResNet): set it to 0.'
    )
  if config.zero_init and config.preact:
    raise UserError(
      'model.zero_init=True needs model.preact=False: a pre-activation branch does not end in a batch normalization.'
    )
  if config.backbone == 'imagenet_resnet':
    depths = IMAGENET_STAGES[config.block]
    check_choice(f'model.depth (imagenet_resnet, {config.block} block)', config.depth, tuple(depths))
    _check_width(config)
    return 'large', depths[config.depth], (64, 128, 256, 512)
  if not config.preact:
    raise UserError(
      f'model.preact=False is for imagenet_resnet: {config.backbone} has pre-activation blocks. Set it to True.'
    )
  if config.backbone == 'wide_resnet':
    if config.block != 'basic':
      raise UserError(f"model.block={config.block!r} is not a Wide ResNet's: set model.block='basic'.")
    blocks_a_stage = _blocks_a_stage(config, 4, 6)
    return 'wide', (blocks_a_stage,) * 3, tuple(width * config.width for width in (16, 32, 64))
  _check_width(config)
  return 'small', (_blocks_a_stage(config, 2, {'basic': 6, 'bottleneck': 9}[config.block]),) * 3, (16, 32, 64)


def _check_width(config: ml_collections.ConfigDict) -> None:
  if config.width != 1:
    raise UserError(
      f"model.width={config.width} is for model.backbone='wide_resnet': set it to 1 for {config.backbone!r}."
    )


def _blocks_a_stage(config: ml_collections.ConfigDict, extra: int, layers_a_block: int) -> int:
  """n of depth = layers_a_block * n + extra (three stages of n blocks)."""
  count, rest = divmod(config.depth - extra, layers_a_block)
  if rest or count < 1:
    lower = max(1, count)
    near = ' or '.join(str(layers_a_block * n + extra) for n in (lower, lower + 1))
    raise UserError(
      f'model.depth={config.depth} is not {layers_a_block}n+{extra} for a whole n, as a {config.backbone} of '
      f'{config.block} blocks needs: choose {near}, for example.'
    )
  return count


def _fold_columns(config: ml_collections.ConfigDict, widths: tuple[int, ...]) -> tuple[int, ...]:
  """L of each stage: given; else C / width for Wide ResNets and 16 for the others. The gate checks them."""
  channels = [width * blocks.expansion(config.block) for width in widths]
  wide = config.backbone == 'wide_resnet'
  columns = tuple(config.fold_columns or (count // config.width if wide else 16) for count in channels)
  if gate := gates.find(config.gate):
    for count, column in zip(channels, columns, strict=True):
      gate.check_shape(count, column)
  return columns
