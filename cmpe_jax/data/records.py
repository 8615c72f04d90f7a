"""Reads datasets that TFDS has prepared as ArrayRecord, without TensorFlow.

The images of a small dataset are kept a second time, decoded: see `kept`.
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_pb2

from cmpe_jax.data import damage, image, kept
from cmpe_jax.data.source import Arrays
from cmpe_jax.errors import UserError


def data_dir(given: str) -> pathlib.Path:
  """The directory that holds the prepared datasets: `given`, or TFDS's default. Raises `UserError` for a bucket."""
  if '://' in given:
    raise UserError(f'data_dir={given!r} cannot be read by index. Mount the bucket, and give the path of the mount.')
  return pathlib.Path(given or tfds.core.constants.DATA_DIR).expanduser()


def builder(directory: pathlib.Path) -> Any:
  """TFDS's builder of a prepared dataset. Raises `UserError`: what describes it is damaged or missing."""
  with damage.named(directory, 'dataset_info.json or features.json'):
    return tfds.builder_from_directory(directory)


def counts(directory: pathlib.Path) -> dict[str, int]:
  """The number of examples of each split of a prepared dataset. Raises `UserError` as `builder`."""
  return {name: info.num_examples for name, info in builder(directory).info.splits.items()}


def find(name: str, root: pathlib.Path) -> pathlib.Path | None:
  """The directory of the newest prepared version of a dataset, or None.

  Raises:
    UserError: there are files of a version, but not the one that describes them.
  """
  versions = {
    tfds.core.Version(path.name): path
    for path in root.joinpath(name).glob('*.*.*')
    if tfds.core.Version.is_valid(path.name) and path.is_dir() and any(path.iterdir())
  }
  whole = {version: path for version, path in versions.items() if (path / 'dataset_info.json').is_file()}
  if versions and not whole:
    raise damage.Damaged(versions[max(versions)], 'dataset_info.json is missing')
  return whole[max(whole)] if whole else None


def is_array_record(made: Any) -> bool:
  """Whether a builder's dataset is in the format that can be read by index."""
  return made.info.file_format is tfds.core.FileFormat.ARRAY_RECORD


def check_format(directory: pathlib.Path, made: Any) -> None:
  """Raises `UserError`, with the command that rewrites it, for a dataset in another format than ArrayRecord."""
  if not is_array_record(made):
    raise UserError(
      f'{str(directory)!r} is prepared as {made.info.file_format.value!r}; only array_record can be read by index. '
      f'Rewrite it: {damage.command(directory)} --adopt={directory}'
    )


def open_source(directory: pathlib.Path, split: str, is_raw: bool = False) -> Sequence[Any]:
  """Random access to a split's examples: {'image': encoded bytes, 'label': int, ...}, or serialized ones if `is_raw`.

  Raises:
    UserError: the directory was prepared in another format than ArrayRecord, or lacks the split; damaged files.
  """
  made = builder(directory)
  check_format(directory, made)
  _files(directory, split)
  with damage.named(directory, f'split {split!r}'):
    if is_raw:
      return made.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    return made.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})


class Records:
  """Splits of a prepared dataset as examples, one split after the other; opened in each process on first use."""

  def __init__(self, directory: pathlib.Path, splits: Sequence[str], rows: np.ndarray | None = None):
    self._directory, self._splits, self._rows = directory, tuple(splits), rows
    lengths = [len(source) for source in self._sources]
    self._starts = np.cumsum([0, *lengths])
    for split in self._splits if rows is None else ():
      _check_lengths(directory, split)

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
    place = f'example {stored - self._starts[part]} of split {self._splits[part]!r}'
    with damage.named(self._directory, place):
      # Parsed here, because TFDS takes five times as long for the general case.
      record = self._sources[part][stored - int(self._starts[part])]
      feature = tf_example_pb2.Example.FromString(record).features.feature
      data, label = feature['image'].bytes_list.value[0], feature['label'].int64_list.value[0]
      place += f' in {str(self._directory)!r}'
      if 'file_name' in feature:
        place = f'{feature["file_name"].bytes_list.value[0].decode()} ({place})'
    return data, label, place

  def take(self, rows: np.ndarray) -> 'Records':
    """The examples at `rows`."""
    return Records(self._directory, self._splits, rows if self._rows is None else self._rows[rows])


def arrays(directory: pathlib.Path, split: str) -> Arrays:
  """A split as (images uint8[n, h, w, 3], labels int32[n]).

  Raises:
    UserError: as `open_source`; an image that cannot be decoded, named by its position.
  """
  files, lengths = _files(directory, split)
  found = kept.load(directory, split, files, sum(lengths))
  if found is None:
    _check_lengths(directory, split)
    found = _decode(directory, split)
    kept.save(directory, split, files, found)
  return found


def _files(directory: pathlib.Path, split: str) -> tuple[list[pathlib.Path], list[int]]:
  """The record files of a split, all of which are there, and how many examples each should hold.

  Raises:
    UserError: the split was not prepared, or is empty; a file is missing.
  """
  splits = builder(directory).info.splits
  if split not in splits or not splits[split].num_examples:
    hint = ' (or set svhn_extra=False)' if split == 'extra' else ''
    raise UserError(f'{str(directory)!r} has no split {split!r}, only {sorted(splits)}{hint}. {damage.cure(directory)}')
  with damage.named(directory, 'dataset_info.json'):
    files = [pathlib.Path(path) for path in splits[split].filepaths]
    lengths = list(splits[split].shard_lengths)
  for path in files:
    if not path.is_file():
      raise damage.Damaged(directory, f'{path.name} is missing')
  return files, lengths


def _check_lengths(directory: pathlib.Path, split: str) -> None:
  """Opens each record file, which takes 0.3 ms. Raises `UserError` for one that has not what it should hold."""
  for path, expected in zip(*_files(directory, split), strict=True):
    with damage.named(directory, path.name):
      reader = array_record_module.ArrayRecordReader(str(path))
      count = reader.num_records()
      reader.close()
    if count != expected:
      raise damage.Damaged(directory, f'{path.name} holds {count} examples, dataset_info.json says {expected}')


def _decode(directory: pathlib.Path, split: str) -> Arrays:
  source = open_source(directory, split)
  images, labels = [], np.empty(len(source), np.int32)
  for position in range(len(source)):
    place = f'example {position} of split {split!r}'
    with damage.named(directory, place):
      example = source[position]
      data, labels[position] = example['image'], example['label']
    try:
      images.append(image.decode(data, place))
    except UserError as error:
      raise damage.Damaged(directory, str(error).removesuffix('. Repair or remove it.')) from error
  with damage.named(directory, f'split {split!r}'):
    return np.stack(images), labels
