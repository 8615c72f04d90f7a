"""The configuration: every key, its default and its meaning, and the check of its values.

A file in `configs/` calls `base()` and overrides primary values; whatever can be derived (the learning rate
at a batch size, the number of steps) is derived by the code, so an override never goes stale.
"""

import json

import ml_collections

from cmpe_jax.errors import UserError, check_choice, check_range

BACKBONES = ('resnet', 'wide_resnet', 'imagenet_resnet')
BLOCKS = ('basic', 'bottleneck')
GATES = ('none', 'se', 'double_fc', 'pair_1x1', 'pair_2x1', 'folded_3x3')
GATE_FORMS = ('exact', 'plain')
DTYPES = ('float32', 'bfloat16', 'float64')
SCHEDULES = ('step', 'cosine', 'constant')
AUGMENTATIONS = ('', 'none', 'crop', 'crop_flip', 'random_resized')
DECAYS = ('kernels', 'all')


def model() -> ml_collections.ConfigDict:
  """The keys of `config.model`."""
  config = ml_collections.ConfigDict()
  config.backbone = 'resnet'  # 'resnet' and 'wide_resnet' for small images, 'imagenet_resnet' for large ones
  config.depth = 164
  config.width = 1  # widening factor of a Wide ResNet
  config.block = 'bottleneck'  # 'basic' or 'bottleneck'; Wide ResNets are basic
  config.gate = 'pair_1x1'
  config.gate_form = 'exact'  # 'plain': as the paper writes it; 'exact': the same numbers from fewer bytes
  config.gate_bias = False  # biases in the gate's dense layers (the paper has none)
  config.num_classes = 0  # 0: the dataset's
  config.preact = True  # pre-activation blocks; ImageNet nets: False is ResNet v1.5
  config.dropout = 0.0  # between the convolutions of a Wide ResNet block
  config.zero_init = False  # the last batch normalization of each post-activation branch starts with scale 0
  config.fold_columns = 0  # columns of the folded map; 0: the paper's choice
  config.scan_blocks = False  # the equal blocks of a stage run in a loop: compiles faster; on a CPU it is far slower
  return config


def base() -> ml_collections.ConfigDict:
  """All keys with their defaults: the recipe of He et al. 2016 for pre-activation ResNets."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.dataset = 'digits'  # 'digits', 'cifar10', 'cifar100', 'svhn_cropped', 'imagenet2012', 'folder:PATH'
  config.data_dir = ''  # where prepared datasets lie; '': TFDS's default (~/tensorflow_datasets)
  config.image_size = 0  # side of the square images the net sees; 0: the dataset's
  config.validation = 0.0  # part of the training split held out to choose the best checkpoint; 0: none
  config.split_seed = 0  # which examples are held out (and the test part of a folder without a test sub-folder)
  config.svhn_extra = True  # SVHN trains on train + extra (604,388 images) instead of train (73,257)
  config.augmentation = ''  # 'none', 'crop', 'crop_flip', 'random_resized'; '': the dataset's
  config.stored_side = 0  # imagenet2012: shorter side of the images stored by data.prepare --shorter_side; 0: originals
  config.resident_megabytes = 2048  # small decoded datasets up to this size lie on the device as a whole
  config.input_threads = 0  # a reading process; 0: one a core, at most 16 (one with input_processes)
  config.input_processes = 0  # processes that read them; 0: threads of the training process

  config.init_from = ''  # workdir of another run whose weights the first step starts from; '': random ones
  config.freeze = 0  # fine-tuning: the stem and so many stages keep their values and running statistics

  config.model = model()
  config.dtype = 'float32'  # of the convolutions; parameters, statistics, gate and loss stay in float32

  config.batch_size = 128  # global
  config.accumulate_steps = 1  # micro-batches a step; each has its own batch normalization statistics
  config.remat = False  # less memory: the gradient of a block computes its inner arrays again
  config.bn_group_size = 0  # examples that share batch normalization statistics; 0: the global (micro-)batch
  config.eval_batch_size = 0  # global; 0: batch_size
  config.epochs = 200.0
  config.learning_rate = 0.1
  config.learning_rate_batch_size = 0  # 0: as given; else multiplied by batch_size / this
  config.schedule = 'step'
  config.warmup_epochs = 0.0  # linear from 0
  config.decay_fractions = (0.5, 0.75)  # of the run, for schedule='step'
  config.decay_epochs = ()  # the same in epochs; instead of decay_fractions
  config.decay_factor = 0.1
  config.momentum = 0.9
  config.nesterov = True
  config.weight_decay = 1e-4
  config.decay_parameters = 'kernels'  # 'kernels' (convolutions and dense layers) or 'all'
  config.grad_clip_norm = 0.0  # global norm; 0: off
  config.label_smoothing = 0.0
  config.mixup_alpha = 0.0  # 0: off
  config.ema_decay = 0.0  # moving averages of parameters and statistics, evaluated besides; 0: off

  config.steps_per_call = 1  # training steps per dispatch to the device
  config.log_every_steps = 50
  config.eval_every_steps = 0  # 0: once an epoch
  config.checkpoint_every_steps = 0  # 0: once an epoch
  config.keep_checkpoints = 2  # the newest ones; the best one is kept besides
  return config


def check_keys(config: ml_collections.ConfigDict) -> None:
  """Raises `UserError` if a key is unknown or missing, listing all of them."""
  known, given = flatten(base()).keys(), flatten(config).keys()
  unknown, missing = sorted(given - known), sorted(known - given)
  if unknown or missing:
    lines = [f'  + {key} (unknown)' for key in unknown] + [f'  - {key} (missing)' for key in missing]
    raise UserError(
      'the configuration does not have the keys of cmpe_jax.config.base():\n'
      + '\n'.join(lines)
      + '\nRemove the unknown ones; start from base() to have the others.'
    )


def check(config: ml_collections.ConfigDict) -> None:
  """Checks keys and values that can be judged without data or devices. Raises `UserError`."""
  check_keys(config)
  check_model(config.model)
  check_choice('dtype', config.dtype, DTYPES)
  check_choice('schedule', config.schedule, SCHEDULES)
  check_choice('augmentation', config.augmentation, AUGMENTATIONS)
  check_choice('decay_parameters', config.decay_parameters, DECAYS)
  for key in ('batch_size', 'accumulate_steps', 'steps_per_call', 'log_every_steps', 'keep_checkpoints'):
    check_range(key, config[key], low=1)
  for key in (
    'freeze', 'image_size', 'bn_group_size', 'eval_batch_size', 'epochs', 'learning_rate', 'learning_rate_batch_size', 'warmup_epochs', 'weight_decay', 'grad_clip_norm', 'mixup_alpha',
    'eval_every_steps', 'checkpoint_every_steps', 'decay_factor', 'seed', 'split_seed', 'resident_megabytes', 'stored_side', 'input_threads', 'input_processes',
  ):  # fmt: skip
    check_range(key, config[key], low=0)
  check_range('momentum', config.momentum, 0, 1)
  check_range('label_smoothing', config.label_smoothing, 0, 1)
  check_range('ema_decay', config.ema_decay, 0, 0.999999)
  check_range('validation', config.validation, 0, 0.9)
  if config.schedule == 'step' and config.decay_fractions and config.decay_epochs:
    raise UserError(
      f'decay_fractions={tuple(config.decay_fractions)} and decay_epochs={tuple(config.decay_epochs)} both say when the rate falls. Set one of them to ().'
    )


def check_model(config: ml_collections.ConfigDict) -> None:
  """Checks `config.model` as far as no shapes are needed. Raises `UserError`."""
  check_choice('model.backbone', config.backbone, BACKBONES)
  check_choice('model.block', config.block, BLOCKS)
  check_choice('model.gate', config.gate, GATES)
  check_choice('model.gate_form', config.gate_form, GATE_FORMS)
  check_range('model.width', config.width, low=1)
  check_range('model.num_classes', config.num_classes, low=0)
  check_range('model.fold_columns', config.fold_columns, low=0)
  check_range('model.dropout', config.dropout, 0, 0.99)


def flatten(config: ml_collections.ConfigDict, prefix: str = '') -> dict[str, object]:
  """{'model.gate': 'pair_1x1', ...}"""
  flat: dict[str, object] = {}
  for key, value in config.items():
    flat |= flatten(value, f'{prefix}{key}.') if isinstance(value, ml_collections.ConfigDict) else {prefix + key: value}
  return flat


def plain(config: ml_collections.ConfigDict) -> dict[str, object]:
  """What JSON can hold: tuples become lists."""
  return json.loads(json.dumps(config.to_dict()))


def from_plain(values: dict[str, object]) -> ml_collections.ConfigDict:
  """The inverse of `plain`: lists become tuples, as configurations have them."""

  def tuples(value: object) -> object:
    if isinstance(value, dict):
      return {key: tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value

  return ml_collections.ConfigDict(tuples(values))
