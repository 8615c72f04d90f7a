"""Configurations: the defaults of all keys, the check of their values, and how they are saved and read.

A file in `configs/` calls `base()` and overrides primary values; whatever can be derived (the learning rate
at a batch size, the number of steps) is derived by the code, so an override never goes stale.
"""

import importlib.util
import itertools
import json
import pathlib

import ml_collections

from cmpe_jax import keys, names
from cmpe_jax.errors import UserError, check_choice, check_range

HERE = pathlib.Path(__file__).parent
# In a checkout configurations lie beside the package, in an installation inside of it.
FOLDERS = (HERE.parent / 'configs', HERE / 'configs')


def base() -> ml_collections.ConfigDict:
  """All keys with their defaults: the recipe of He et al. 2016 for pre-activation ResNets."""
  config = ml_collections.ConfigDict({name: key.default for name, key in keys.KEYS.items()})
  config.model = model()
  return config


def model() -> ml_collections.ConfigDict:
  """The keys of `config.model` with their defaults."""
  return ml_collections.ConfigDict({name: key.default for name, key in keys.MODEL.items()})


def find(name: str) -> pathlib.Path:
  """The file of a configuration: 'digits' and 'configs/digits.py' are one, unless the latter exists where we are.

  Raises:
    UserError: there is no such file; the message lists the names.
  """
  given = pathlib.Path(name)
  if given.is_file():
    return given
  places = [folder / f'{given.stem}.py' for folder in FOLDERS] if given.parent.name in ('', 'configs') else []
  for place in places:
    if place.is_file():
      return place
  raise UserError(f'there is no configuration {name!r}: give the path of a file, or one of {", ".join(known())}.')


def known() -> list[str]:
  """The names of the configurations that come with this package."""
  return sorted({path.stem for folder in FOLDERS for path in folder.glob('*.py')})


def load(name: str) -> ml_collections.ConfigDict:
  """What `get_config()` of a configuration file gives: `load('digits')`. Raises `UserError` as `find`."""
  path = find(name)
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec
  assert spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config()


def check(config: ml_collections.ConfigDict) -> None:
  """Checks keys and values that can be judged without data or devices. Raises `UserError`."""
  check_keys(config)
  _check_values(flatten(config))
  if config.schedule == 'step' and config.decay_fractions and config.decay_epochs:
    raise UserError(
      f'decay_fractions={tuple(config.decay_fractions)} and decay_epochs={tuple(config.decay_epochs)} both say when '
      'the rate falls. Set one of them to ().'
    )
  mean, std = tuple(config.pixel_mean), tuple(config.pixel_std)
  are_numbers = all(isinstance(value, int | float) for value in (*mean, *std))
  if (mean or std) and not (are_numbers and len(mean) == len(std) == 3 and min(std) > 0):
    raise UserError(f'pixel_mean={mean} and pixel_std={std} need three values each, those of pixel_std above 0, or ().')
  _check_sizes(tuple(config.train_image_sizes), tuple(config.train_size_fractions))


def _check_sizes(sizes: tuple[object, ...], fractions: tuple[object, ...]) -> None:
  """Raises `UserError` unless there are sizes of images, and rising parts of the run at which they change."""
  if not all(isinstance(size, int) and size > 0 for size in sizes):
    raise UserError(f'train_image_sizes={sizes} are not sides in pixels: give some, such as (160, 192), or ().')
  rising = all(isinstance(fraction, int | float) for fraction in fractions)
  rising = rising and all(a < b for a, b in itertools.pairwise((0, *fractions, 1)))  # type: ignore[operator]
  if not rising or len(fractions) != max(len(sizes) - 1, 0):
    raise UserError(
      f'train_size_fractions={fractions} must be one number for each change between train_image_sizes={sizes}, rising '
      'and between 0 and 1, such as (0.75,) for two sizes.'
    )


def check_model(config: ml_collections.ConfigDict) -> None:
  """Checks keys and values of `config.model` as far as no shapes are needed. Raises `UserError`."""
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(f'the configuration of a network is a {type(config).__name__}: start from cmpe_jax.config.model().')
  if 'model' in config:
    raise UserError('a whole configuration was given, not that of a network: give its part config.model.')
  check_keys(ml_collections.ConfigDict({**base(), 'model': config}))
  _check_values({f'model.{name}': value for name, value in config.items()})


def check_keys(config: ml_collections.ConfigDict) -> None:
  """Raises `UserError` if a key is unknown or missing, listing all of them."""
  given = flatten(config).keys()
  unknown, missing = sorted(given - keys.ALL.keys()), sorted(keys.ALL.keys() - given)
  if unknown or missing:
    lines = [f'  + {key} (unknown)' for key in unknown] + [f'  - {key} (missing)' for key in missing]
    raise UserError(
      'the configuration does not have the keys of cmpe_jax.config.base():\n'
      + '\n'.join(lines)
      + '\nRemove the unknown ones; start from base() to have the others.'
    )


def check_resumed(
  config: ml_collections.ConfigDict, saved: ml_collections.ConfigDict, step: int, model_only: bool = False
) -> None:
  """Raises `UserError`, listing the keys, if the checkpoint of `step` was written with another configuration.

  Keys that are `free` may differ. With `model_only`, and at step 0 (converted weights, nothing trained yet), only
  `model` has to agree.
  """
  ours, theirs = flatten(config), flatten(saved)
  lines = []
  for name in sorted(ours.keys() | theirs.keys()):
    compared = name.startswith('model.') or not (model_only or step == 0)
    is_free = name in keys.ALL and keys.ALL[name].free
    if compared and not is_free and ours.get(name) != theirs.get(name):
      lines.append(f'  {name}: {theirs.get(name)!r} in the checkpoint, {ours.get(name)!r} now')
  if lines:
    raise UserError(
      f'the checkpoint at step {step} was written with another configuration:\n'
      + '\n'.join(lines)
      + '\nSet these keys back, or use another --workdir.'
    )


def check_tested(config: ml_collections.ConfigDict, saved: ml_collections.ConfigDict) -> None:
  """Raises `UserError`, naming them, if keys would make other images of a folder the test part than in training.

  A folder that has moved counts as the same; any other dataset may be evaluated on. No image may be normalized in
  another way than in training.
  """
  is_folder = config.dataset.startswith('folder:') and saved.dataset.startswith('folder:')
  of_folder = ('split_seed', 'split_by', 'image_size', 'orientation') if is_folder else ()
  compared = ('pixel_mean', 'pixel_std', *of_folder)
  lines = [
    f'  {name}: {saved[name]!r} in the checkpoint, {config[name]!r} now'
    for name in compared
    if config[name] != saved[name]
  ]
  if lines:
    raise UserError(
      'the network was trained with other values of keys that decide what is tested:\n'
      + '\n'.join(lines)
      + '\nSet these keys back: images that it was trained on would be among the test images, or it would see others.'
    )


def as_begun(config: ml_collections.ConfigDict, saved: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The configuration that goes on with a saved run: what newer versions do differently by default stays as it was.

  Keys that have their default now, and in the saved configuration what older versions did, are taken from there; from
  that of converted weights those that say how images are shown to them, and the mean and deviation that were measured.
  """
  old = {
    name: keys.BEFORE[name]
    for name, key in keys.KEYS.items()
    if key.before is not None and config.get(name) == key.default and saved[name] == key.before
  }
  shown = keys.SHOWN if saved.architecture else keys.MEASURED if saved.pixel_statistics == 'own' else ()
  old |= {name: saved[name] for name in shown if config.get(name) == keys.KEYS[name].default != saved[name]}
  if not old:
    return config
  begun = config.copy_and_resolve_references()
  begun.update(old)
  return begun


def _check_values(flat: dict[str, object]) -> None:
  for name, value in flat.items():
    key = keys.ALL[name]
    if key.choices:
      check_choice(name, names.current(name, value), key.choices)
    if key.low is not None or key.high is not None:
      check_range(name, value, key.low, key.high)  # type: ignore[arg-type]


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
  """The inverse of `plain`, for keys and values of older versions too: newer keys get what older versions did."""

  def read(name: str, value: object) -> object:
    if isinstance(value, dict):
      return {key: read(f'{name}.{key}' if name else key, item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else names.current(name, value)

  config = base()
  config.update_from_flattened_dict(keys.BEFORE)
  config.update(ml_collections.ConfigDict(read('', values)))
  return config
