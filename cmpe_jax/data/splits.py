"""From a dataset to the source of one of its splits: which examples, and whether they lie on the device or are read."""

import jax
import ml_collections
import numpy as np

from cmpe_jax import names
from cmpe_jax.data import order
from cmpe_jax.data.datasets.dataset import Dataset
from cmpe_jax.data.resident import Resident
from cmpe_jax.data.source import Source
from cmpe_jax.data.streamed import Streamed
from cmpe_jax.errors import UserError, check_choice


def open_split(config: ml_collections.ConfigDict, dataset: Dataset, split: str, mesh: jax.sharding.Mesh) -> Source:
  """The source of a split: 'train', 'validation' (the part of the training split held out) or 'test'. Close it.

  Raises:
    UserError: data that are not prepared (the message has the command) or not readable; 'validation' when
      `config.validation` is 0.
  """
  check_choice('split', split, names.SPLITS)
  if split == 'validation' and not config.validation:
    raise UserError('validation=0.0 holds no training images out. Set it, to 0.1 for example.')
  stored = 'test' if split == 'test' else 'train'
  part = config.validation if split != 'test' else 0.0
  if dataset.is_resident:
    images, labels = dataset.content.arrays(stored)
    rows = rows_of(config, split, labels) if part else None
    arrays = (images, labels) if rows is None else (images[rows], labels[rows])
    return Resident(arrays, config.seed, config.batch_size, mesh)
  examples = dataset.content.examples(stored)
  rows = rows_of(config, split, dataset.content.labels(stored)) if part else None
  return Streamed(
    examples if rows is None else examples.take(rows),
    image_size=dataset.image_size,
    is_cropped=dataset.is_cropped,
    seed=config.seed,
    batch_size=config.batch_size,
    mesh=mesh,
    threads=config.input_threads,
    processes=config.input_processes,
    interpolations=(config.train_interpolation, config.eval_interpolation),
    eval_crop=config.eval_crop,
    is_upright=dataset.is_upright,
  )


def rows_of(config: ml_collections.ConfigDict, split: str, labels: np.ndarray) -> np.ndarray:
  """The examples of the stored training split that belong to `split`."""
  if config.held_out_by == 'position':
    is_held = order.held_out_by_position(config.split_seed, config.validation, len(labels))
  else:
    is_held = order.held_out(config.split_seed, config.validation, labels)
  if is_held.all() or not is_held.any():
    raise UserError(
      f'validation={config.validation} of {len(labels)} training images leaves one part empty. Change it.'
    )
  return np.flatnonzero(is_held if split == 'validation' else ~is_held)
