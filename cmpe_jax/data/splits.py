"""From a split to batches on the devices: which examples, from whom, on which device."""

import concurrent.futures
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from cmpe_jax import mesh as mesh_lib
from cmpe_jax.data import datasets, folder, image, install, order, prepared, stream
from cmpe_jax.data.datasets import Dataset
from cmpe_jax.errors import UserError, check_choice

SPLITS = ('train', 'validation', 'test')
Batch = dict[str, jax.Array]


class Resident:
  """A split whose images lie on every device; a batch is drawn from them by index, inside jit.

  Attributes:
    num_examples: examples of the split.
    resident: {'image': uint8[num_examples, H, W, 3], 'label': int32[num_examples]}, replicated over the mesh.
  """

  def __init__(self, images: np.ndarray, labels: np.ndarray, seed: int, batch_size: int, mesh: jax.sharding.Mesh):
    self.num_examples = len(labels)
    self.resident = mesh_lib.replicate({'image': images, 'label': labels}, mesh)
    self._seed, self._batch_size, self._mesh = seed, batch_size, mesh

  @staticmethod
  def materialize(resident: dict[str, jax.Array], drawn: jax.Array) -> Batch:
    """The batch of the drawn indices, int32[B]; -1 is padding. Pure; traced inside jit."""
    mask = drawn >= 0
    rows = jnp.where(mask, drawn, 0)
    return {'image': resident['image'][rows], 'label': resident['label'][rows], 'mask': mask, 'index': drawn}

  def train(self, calls: Iterable[tuple[int, int]]) -> Iterator[jax.Array]:
    """Indices int32[count, batch_size] for each (first step, count)."""
    sharding = mesh_lib.batch_sharding(self._mesh, leading=1)
    for first, count in calls:
      steps = range(first, first + count)
      rows = [order.draw(self._seed, step, self._batch_size, self.num_examples)[0] for step in steps]
      yield _put(np.stack(rows), sharding)

  def evaluate(self, batch_size: int) -> Iterator[jax.Array]:
    """Indices int32[batch_size]: every example once, in order; the last batch is padded with -1."""
    sharding = mesh_lib.batch_sharding(self._mesh)
    for indices in order.passes(batch_size, self.num_examples):
      yield _put(indices, sharding)

  def close(self) -> None:
    """Nothing runs in the background."""


def open_split(config: ml_collections.ConfigDict, info: Dataset, split: str, mesh: jax.sharding.Mesh) -> Any:
  """The source of a split: 'train', 'validation' (the part of the training split held out) or 'test'.

  Raises:
    UserError: data that are not prepared (the message has the command) or not readable; 'validation' when
      `config.validation` is 0.
  """
  check_choice('split', split, SPLITS)
  if split == 'validation' and not config.validation:
    raise UserError('validation=0.0 holds no training images out. Set it, to 0.1 for example.')
  stored = 'test' if split == 'test' else 'train'
  if info.resident and not info.name.startswith(datasets.FOLDER_PREFIX):
    images, labels = _arrays(config, stored)
    rows = _rows(config, split, len(labels))
    images, labels = (images, labels) if rows is None else (images[rows], labels[rows])
    return Resident(images, labels, config.seed, config.batch_size, mesh)
  examples = _examples(config, info, stored)
  rows = _rows(config, split, len(examples))
  examples = examples if rows is None else examples.take(rows)
  if info.resident and isinstance(examples, folder.Files):
    return Resident(*_decoded(examples, info.image_size), config.seed, config.batch_size, mesh)
  return stream.Streamed(
    examples,
    image_size=info.image_size,
    is_cropped=info.augmentation == 'random_resized',
    seed=config.seed,
    batch_size=config.batch_size,
    mesh=mesh,
    threads=config.input_threads,
    processes=config.input_processes,
  )


def _rows(config: ml_collections.ConfigDict, split: str, count: int) -> np.ndarray | None:
  """The examples of the stored split that belong to `split`; None: all of them."""
  if split == 'test' or not config.validation:
    return None
  is_held = order.held_out(config.split_seed, config.validation, count)
  if is_held.all() or not is_held.any():
    raise UserError(f'validation={config.validation} of {count} training images leaves one part empty. Change it.')
  return np.flatnonzero(is_held if split == 'validation' else ~is_held)


def _examples(config: ml_collections.ConfigDict, info: Dataset, stored: str) -> folder.Files | prepared.Records:
  """Encoded images of the stored split 'train' or 'test'."""
  if info.name.startswith(datasets.FOLDER_PREFIX):
    return folder.scan(pathlib.Path(info.name.removeprefix(datasets.FOLDER_PREFIX)), config.split_seed).splits[stored]
  return prepared.Records(_directory(config), datasets.stored_splits(config, stored))


def _arrays(config: ml_collections.ConfigDict, stored: str) -> prepared.Arrays:
  """Decoded images and labels of the stored split 'train' or 'test' of a prepared dataset."""
  directory = _directory(config)
  parts = [prepared.arrays(directory, name) for name in datasets.stored_splits(config, stored)]
  if len(parts) == 1:
    return parts[0]
  return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _decoded(examples: folder.Files, image_size: int) -> prepared.Arrays:
  """All images of a folder resized to `image_size`, and their labels."""

  def one(position: int) -> np.ndarray:
    data, _, name = examples.read(position)
    return image.resize(image.decode(data, name), image_size)

  with concurrent.futures.ThreadPoolExecutor() as pool:
    images = np.stack(list(pool.map(one, range(len(examples)))))
  return images, examples.labels


def _directory(config: ml_collections.ConfigDict) -> pathlib.Path:
  """Where the dataset is prepared; the digits prepare themselves."""
  root = prepared.data_dir(config.data_dir)
  directory = prepared.find(prepared.stored_name(config.dataset, config.stored_side), root)
  if directory is None and config.dataset == 'digits':
    return install.prepare('digits', root)
  if directory is None:
    option = f' --data_dir={config.data_dir}' if config.data_dir else ''
    option += f' --shorter_side={config.stored_side}' if config.stored_side else ''
    raise UserError(
      f'dataset={config.dataset!r} is not prepared in {str(root)!r}. '
      f'Run: python -m cmpe_jax.data.prepare --dataset={config.dataset}{option}'
    )
  return directory


def _put(rows: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
  """A global array from the same host array in every process."""
  return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])
