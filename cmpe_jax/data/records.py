"""Reads datasets that TFDS has prepared as ArrayRecord, without TensorFlow.

The images of a small dataset are kept a second time, as one `.npy` file a split beside the records: decoding 50,000
PNG records takes 12 s, reading the array 0.3 s.
"""

import functools
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.proto import tf_example_pb2

from cmpe_jax.data import image
from cmpe_jax.data.source import Arrays
from cmpe_jax.errors import UserError


def data_dir(given: str) -> pathlib.Path:
  """The directory that holds the prepared datasets: `given`, or TFDS's default. Raises `UserError` for a bucket."""
  if '://' in given:
    raise UserError(f'data_dir={given!r} cannot be read by index. Mount the bucket, and give the path of the mount.')
  return pathlib.Path(given or tfds.core.constants.DATA_DIR).expanduser()


def counts(directory: pathlib.Path) -> dict[str, int]:
  """The number of examples of each split of a prepared dataset."""
  return {name: info.num_examples for name, info in tfds.builder_from_directory(directory).info.splits.items()}


def find(name: str, root: pathlib.Path) -> pathlib.Path | None:
  """The directory of the newest prepared version of a dataset, or None."""
  versions = {
    tfds.core.Version(path.parent.name): path.parent
    for path in root.joinpath(name).glob('*.*.*/dataset_info.json')
    if tfds.core.Version.is_valid(path.parent.name)
  }
  return versions[max(versions)] if versions else None


def open_source(directory: pathlib.Path, split: str, is_raw: bool = False) -> Sequence[Any]:
  """Random access to a split's examples: {'image': encoded bytes, 'label': int, ...}, or serialized ones if `is_raw`.

  Raises:
    UserError: the directory was prepared in another format than ArrayRecord, or lacks the split.
  """
  builder = tfds.builder_from_directory(directory)
  file_format = builder.info.file_format
  if file_format is not tfds.core.FileFormat.ARRAY_RECORD:
    raise UserError(
      f'{str(directory)!r} is prepared as {file_format.value!r}; only array_record can be read by index. '
      f'Rewrite it: python -m cmpe_jax.data.prepare --dataset={builder.name} --adopt={directory}'
    )
  _require(directory, split)
  if is_raw:
    return builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
  return builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})


class Records:
  """Splits of a prepared dataset as examples, one split after the other; opened in each process on first use."""

  def __init__(self, directory: pathlib.Path, splits: Sequence[str], rows: np.ndarray | None = None):
    self._directory, self._splits, self._rows = directory, tuple(splits), rows
    lengths = [len(source) for source in self._sources]
    self._starts = np.cumsum([0, *lengths])

  def __len__(self) -> int:
    return int(self._starts[-1]) if self._rows is None else len(self._rows)

  def __getstate__(self) -> dict[str, Any]:
    return {key: value for key, value in vars(self).items() if key != '_sources'}

  @functools.cached_property
  def _sources(self) -> list[Sequence[bytes]]:
    return [open_source(self._directory, split, is_raw=True) for split in self._splits]

  def read(self, position: int) -> tuple[bytes, int, str]:
    """The image's bytes, its label, and its file name if TFDS stored one."""
    stored = position if self._rows is None else int(self._rows[position])
    part = int(np.searchsorted(self._starts, stored, 'right')) - 1
    # Parsed here, because TFDS takes five times as long for the general case.
    record = self._sources[part][stored - int(self._starts[part])]
    feature = tf_example_pb2.Example.FromString(record).features.feature
    place = f'example {stored - self._starts[part]} of split {self._splits[part]!r} in {str(self._directory)!r}'
    if 'file_name' in feature:
      place = f'{feature["file_name"].bytes_list.value[0].decode()} ({place})'
    return feature['image'].bytes_list.value[0], feature['label'].int64_list.value[0], place

  def take(self, rows: np.ndarray) -> 'Records':
    """The examples at `rows`."""
    return Records(self._directory, self._splits, rows if self._rows is None else self._rows[rows])


def arrays(directory: pathlib.Path, split: str) -> Arrays:
  """A split as (images uint8[n, h, w, 3], labels int32[n]).

  Raises:
    UserError: as `open_source`; an image that cannot be decoded, named by its position.
  """
  paths = [directory / f'resident-{split}-{part}.npy' for part in ('images', 'labels')]
  cached = _load(paths, _require(directory, split))
  if cached is None:
    cached = _decode(directory, split)
    try:
      for path, array in zip(paths, cached, strict=True):
        _save(path, array)
    except OSError as error:
      logging.warning('The decoded images are not kept (%s); the next start decodes them again.', error)
  return cached


def _require(directory: pathlib.Path, split: str) -> int:
  """The number of examples of a split. Raises `UserError` if it was not prepared, or is empty."""
  have = counts(directory)
  if not have.get(split):
    hint = ', or set svhn_extra=False' if split == 'extra' else ''
    raise UserError(
      f'{str(directory)!r} has no split {split!r}, only {sorted(have)}. Remove it and prepare the dataset again{hint}.'
    )
  return have[split]


def _decode(directory: pathlib.Path, split: str) -> Arrays:
  source = open_source(directory, split)
  images, labels = [], np.empty(len(source), np.int32)
  for position, example in enumerate(source):
    images.append(image.decode(example['image'], f'example {position} of split {split!r} in {str(directory)!r}'))
    labels[position] = example['label']
  return np.stack(images), labels


def _load(paths: list[pathlib.Path], count: int) -> Arrays | None:
  """The kept arrays, or None if they are absent, cut short, or of another number of examples."""
  try:
    images, labels = (np.load(path) for path in paths)
  except (OSError, ValueError, EOFError):
    return None
  return (images, labels) if len(images) == len(labels) == count else None


def _save(path: pathlib.Path, array: np.ndarray) -> None:
  """Under another name first: a process that is killed here, or a second one, leaves no half-written array."""
  descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix='.tmp')
  try:
    with os.fdopen(descriptor, 'wb') as file:
      np.save(file, array)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException:
    os.unlink(temporary)
    raise
