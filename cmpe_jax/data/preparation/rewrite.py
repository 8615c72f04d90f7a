"""Rewrites a prepared dataset as ArrayRecord: from TFRecord, or with smaller images. Needs no TensorFlow."""

import collections
import concurrent.futures
import contextlib
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grain
import tensorflow_datasets as tfds
from PIL import ExifTags, Image

from cmpe_jax.data import image, records
from cmpe_jax.errors import UserError

Example = dict[str, Any]
QUALITY = 90  # of the JPEG files that are written smaller


def build(source: pathlib.Path, staging: pathlib.Path, name: str, shorter_side: int) -> None:
  """Writes staging/name/VERSION from the prepared dataset in `source`, in the same order.

  Args:
    source: a TFDS version directory, TFRecord or ArrayRecord.
    staging: the data_dir to write to.
    name: the new dataset's name.
    shorter_side: images are made smaller until their shorter side has this many pixels; 0: untouched.

  Raises:
    UserError: `source` is no prepared dataset, or one of its files is damaged.
  """
  if not (source / 'dataset_info.json').is_file():
    raise UserError(f'{str(source)!r} is not a prepared dataset: it must be the directory with dataset_info.json.')
  old = records.builder(source)

  class Rewritten(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """The same examples in another file format."""

    VERSION = old.version
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self) -> tfds.core.DatasetInfo:
      return tfds.core.DatasetInfo(
        builder=self, description=old.info.description, features=old.info.features, disable_shuffling=True
      )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
      del dl_manager  # nothing to download
      return {split: self._generate_examples(split) for split in old.info.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, Example]]:
      return enumerate(shrink(read(old, split), shorter_side))

  Rewritten.name = name
  Rewritten(data_dir=staging, file_format='array_record').download_and_prepare()


def read(builder: Any, split: str) -> Iterator[Example]:
  """The examples of a split in their stored order, images as encoded bytes. Raises `UserError` for damaged files."""
  info = builder.info.splits[split]
  skip = {'image': tfds.decode.SkipDecoding()}
  if builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD:
    place = f'split {split!r} in {str(builder.data_path)!r}'
    with _readable(place):
      source = builder.as_data_source(split, decoders=skip)
    for position in range(info.num_examples):
      with _readable(f'example {position} of {place}'):
        example = source[position]
      yield example
    return
  for path, expected in zip(info.filepaths, info.shard_lengths, strict=True):
    count = 0
    with _readable(repr(str(path))):
      found = iter(grain.experimental.TFRecordIterDataset(os.fspath(path)))
    while True:
      with _readable(f'{str(path)!r} after {count} records'):
        record = next(found, None)
        example = None if record is None else builder.info.features.deserialize_example_np(record, decoders=skip)
      if example is None:
        break
      yield example
      count += 1
    if count != expected:
      raise UserError(f'{str(path)!r} holds {count} records instead of {expected}. Copy it again.')


@contextlib.contextmanager
def _readable(place: str) -> Iterator[None]:
  """Whatever TFDS, Grain, ArrayRecord or protobuf raise becomes a `UserError`."""
  try:
    yield
  except Exception as error:
    first = (str(error) or type(error).__name__).splitlines()[0][:150].rstrip('.')  # Grain shows the record itself
    raise UserError(f'{place} is missing, truncated or damaged ({first}). Copy it again.') from error


def shrink(examples: Iterable[Example], shorter_side: int) -> Iterator[Example]:
  """Makes the images smaller, in threads (Pillow works outside Python's lock); 0: returns the examples as they are."""
  if not shorter_side:
    return iter(examples)

  def one(example: Example) -> Example:
    return {**example, 'image': smaller(example['image'], str(example['file_name']), shorter_side)}

  return _ahead(one, examples)


def smaller(data: bytes, name: str, shorter_side: int) -> bytes:
  """An image as JPEG whose shorter side is `shorter_side` (bicubic); one that is not larger stays as it is."""
  width, height, _ = image.facts(data, name)
  if min(width, height) <= shorter_side:
    return data
  scale = shorter_side / min(width, height)
  pixels = Image.fromarray(image.decode(data, name))
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = turned = image.orientation(data, name)
  file = io.BytesIO()
  pixels.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC).save(
    file, 'JPEG', quality=QUALITY, **({'exif': exif} if turned != 1 else {})
  )
  return file.getvalue()


def _ahead(function: Callable[[Example], Example], items: Iterable[Example]) -> Iterator[Example]:
  """`map` in threads, in order, reading no further ahead than the threads need."""
  workers = os.cpu_count() or 1
  pending: collections.deque = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    for item in items:
      pending.append(pool.submit(function, item))
      if len(pending) > 4 * workers:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
