"""Weights that travel: a folder of config.json and model.safetensors, found by its name and read.

The layout is that of the Hugging Face Hub. What a folder says is checked against what it holds, so that weights which
were cut off, changed, or mixed with another folder's are refused. `publish` writes it.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import flax
import jax
import ml_collections
import numpy as np
import safetensors
import safetensors.numpy

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax.data import datasets
from cmpe_jax.data.datasets.folder import usual_augmentation
from cmpe_jax.errors import UserError
from cmpe_jax.models import initializers, paths
from cmpe_jax.training import hub
from cmpe_jax.training.load import network

LIBRARY = 'cmpe_jax'
WEIGHTS, DESCRIPTION, CARD = 'model.safetensors', 'config.json', 'README.md'
BEFORE = {WEIGHTS: 'weights.safetensors', DESCRIPTION: 'model.json'}  # what `export` of version 1.0 called them
SHIPPED = pathlib.Path(__file__).parents[1] / 'pretrained'


@dataclasses.dataclass(frozen=True)
class Weights:
  """What a folder holds.

  Attributes:
    config: of the run that they are from, with the dataset's values (image size, normalization) filled in.
    variables: {'params', 'batch_stats'} on the host.
    class_names: one a label.
  """

  config: ml_collections.ConfigDict
  variables: dict[str, Any]
  class_names: tuple[str, ...]


def names() -> list[str]:
  """The weights that come with this package."""
  return sorted(path.parent.name for path in SHIPPED.glob(f'*/{DESCRIPTION}'))


def find(name: str, others: str = '') -> pathlib.Path:
  """The folder of weights: `name` itself, one that comes with this package, or one of the Hub, which is downloaded.

  Args:
    name: a path, one of `names()`, or USER/NAME or USER/NAME@REVISION of the Hub.
    others: what else could have been given, for the message.

  Raises:
    UserError: there is no such folder.
    Interrupted: the Hub did not answer.
  """
  folder = pathlib.Path(name).expanduser()
  if _file(folder, DESCRIPTION).exists():
    return folder
  if name in names():
    return SHIPPED / name
  if (folder / 'checkpoints').exists():
    raise UserError(f'{name!r} is a workdir: give it as --workdir, or write its weights by save_pretrained first.')
  if hub.is_name(name) and not folder.exists():
    return hub.download(name, (DESCRIPTION, WEIGHTS, CARD))
  raise UserError(
    f'there are no weights {name!r}: give {others}one of {", ".join(names())}, a folder with {DESCRIPTION} and '
    f'{WEIGHTS}, or USER/NAME of the Hugging Face Hub.'
  )


def read(folder: pathlib.Path) -> Weights:
  """The weights in a folder.

  Raises:
    UserError: a file is missing, damaged, not of this package or of a newer version; the arrays are of another network
      (the message lists what differs).
  """
  described = _file(folder, DESCRIPTION)
  about = _description(described)
  config = _config(about, described)
  arrays = _arrays(folder, about.get('sha256'))
  shapes = _shapes(config, about, described)
  lines = [f'  - {name} {list(shapes[name].shape)} (missing)' for name in sorted(shapes.keys() - arrays.keys())]
  lines += [f'  + {name} {list(arrays[name].shape)}' for name in sorted(arrays.keys() - shapes.keys())]
  lines += [
    f'  {name}: {list(arrays[name].shape)}, not {list(shapes[name].shape)}'
    for name in sorted(shapes.keys() & arrays.keys())
    if arrays[name].shape != shapes[name].shape
  ]
  if lines:
    raise UserError(f'the weights in {folder} are not of the network in its {DESCRIPTION}:\n' + '\n'.join(lines))
  typed = {name: np.asarray(arrays[name], shape.dtype) for name, shape in shapes.items()}
  return Weights(config, flax.traverse_util.unflatten_dict(typed, '/'), tuple(about['class_names']))


def _file(folder: pathlib.Path, name: str) -> pathlib.Path:
  """A file of the folder, under the name that it has there."""
  old = folder / BEFORE[name]
  return old if old.exists() and not (folder / name).exists() else folder / name


def _description(path: pathlib.Path) -> dict[str, Any]:
  """The content of a config.json that this package wrote."""
  try:
    about = json.loads(path.read_text())
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}).') from error
  except ValueError as error:  # no UTF-8, no JSON
    raise UserError(f'{path} is damaged ({error}): copy it again.') from error
  kinds = {'config': dict, 'class_names': list, 'normalization': dict}
  if not isinstance(about, dict) or not all(isinstance(about.get(key), kind) for key, kind in kinds.items()):
    raise UserError(
      f"{path} does not describe weights of {LIBRARY}. timm's are read by python -m cmpe_jax.tools.convert timm FILE."
    )
  return about


def _config(about: dict[str, Any], path: pathlib.Path) -> ml_collections.ConfigDict:
  """The configuration that a description holds."""
  try:
    config = configuration.from_plain(about['config'])
    if not config.pixel_mean:  # as version 1.0 wrote it
      config.pixel_mean, config.pixel_std = (tuple(about['normalization'][key]) for key in ('mean', 'std'))
      known = datasets.DATASETS.get(config.dataset)
      usual = known.augmentation if known else usual_augmentation(config.image_size)
      config.augmentation = config.augmentation or usual
    configuration.check(config)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise _unusable(about, path, error) from error
  if config.model.num_classes != len(about['class_names']):
    raise UserError(f'{path} has {len(about["class_names"])} names for {config.model.num_classes} classes.')
  return config


def _shapes(config: ml_collections.ConfigDict, about: dict[str, Any], path: pathlib.Path) -> dict[str, Any]:
  """Shapes and types of the variables by name."""
  try:
    with jax.enable_x64(config.dtype == 'float64'):
      return paths.named(initializers.shapes(network(config), config.image_size))
  except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
    raise _unusable(about, path, error) from error


def _unusable(about: dict[str, Any], path: pathlib.Path, error: Exception) -> UserError:
  version = about.get('library_version', 'of 1.0')
  return UserError(f'{path} cannot be used by cmpe_jax {cmpe_jax.__version__} (it was written by {version}): {error}')


def _arrays(folder: pathlib.Path, digest: str | None) -> dict[str, np.ndarray]:
  """The arrays by name; `digest`: the SHA-256 of their file, if it is known."""
  path = _file(folder, WEIGHTS)
  try:
    data = path.read_bytes()
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
      raise UserError(f'{path} is not what {DESCRIPTION} beside it was written for: copy or download both again.')
    return safetensors.numpy.load(data)
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}).') from error
  except safetensors.SafetensorError as error:
    raise UserError(f'{path} is damaged ({error}): copy it again.') from error
