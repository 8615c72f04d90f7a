"""A run told to others: the command that trains it again, without the places of one machine."""

import pathlib
import shlex

import ml_collections

from cmpe_jax import config as configuration
from cmpe_jax.data import datasets
from cmpe_jax.runtime import places

_LEFT_OUT = ('data_dir', 'model.num_classes')  # of the machine; the dataset's


def dataset_name(dataset: str) -> str:
  """`config.dataset` without the place of a folder: 'folder:/data/flowers' -> 'folder:flowers'."""
  prefix = datasets.FOLDER_PREFIX
  return prefix + pathlib.PurePath(dataset.removeprefix(prefix)).name if dataset.startswith(prefix) else dataset


def without_place(path: str) -> str:
  """The last part of a path that means something on one machine only, others as they are."""
  return pathlib.PurePath(path).name if path[:1] in ('/', '~') or places.is_bucket(path) else path


def command(config: ml_collections.ConfigDict) -> str:
  """The command that trains `config` (resolved) again, by the file in configs/ that needs the fewest changes."""
  wanted = configuration.flatten(config)
  wanted['dataset'], wanted['init_from'] = dataset_name(config.dataset), without_place(config.init_from)
  options = []
  for name in configuration.known():
    given = configuration.flatten(configuration.load(name))
    if not given['image_size'] and wanted['dataset'] in datasets.DATASETS:
      given['image_size'] = datasets.DATASETS[wanted['dataset']].image_size
    changed = [
      shlex.quote(f'--config.{key}={value}')
      for key, value in wanted.items()
      if key not in _LEFT_OUT and given[key] != value
    ]
    options.append([f'--config=configs/{name}.py', *changed])
  return ' '.join(['python -m cmpe_jax.main', *min(options, key=len)])
