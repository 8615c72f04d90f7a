"""`python -m cmpe_jax.tools.benchmark input --images=DIR`: our input pipeline against tf.data, side by side.

Both read the same photos from a dataset that TFDS prepared (ours as ArrayRecord, tf.data's as TFRecord), cut
random-resized crops, mirror them, and deliver uint8 batches. The rounds alternate in one process, and the unit is
images per CPU-second: a number for one core that a busy machine disturbs little.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cmpe_jax.data import decoder, reader, records
from cmpe_jax.data.preparation import rewrite
from cmpe_jax.data.source import Call
from cmpe_jax.errors import UserError, check_range
from cmpe_jax.runtime import files
from cmpe_jax.runtime.printing import line
from cmpe_jax.tools.shared import arguments, origin

SUFFIXES = ('.jpg', '.jpeg')
COLUMNS = ('images_per_cpu_second', 'images_per_second')
Way = Callable[[int], None]  # reads so many images


def main(argv: Sequence[str]) -> None:
  """The command; `argv` without the program's name. Raises `UserError`: no photos, no TensorFlow, no such file."""
  parser = argparse.ArgumentParser(prog='cmpe_jax.tools.benchmark input', description=__doc__)
  parser.add_argument('--images', type=pathlib.Path, required=True, help='a folder with JPEG photos, at any depth')
  parser.add_argument('--image_size', type=arguments.positive, default=224, help='pixels of the crops (default: 224)')
  parser.add_argument('--batch_size', type=arguments.positive, default=64, help='images of a batch (default: 64)')
  parser.add_argument(
    '--count', type=arguments.positive, default=1024, help='images of a round, whole batches of them (default: 1024)'
  )
  parser.add_argument('--rounds', type=arguments.positive, default=5, help='rounds of each way, in turns (default: 5)')
  parser.add_argument('--shorter_side', type=int, default=256, help='of the smaller copies; 0: leave them out')
  parser.add_argument('--json', help='a file that gets the rates of every round')
  options = parser.parse_args(argv)
  check_range('--shorter_side', options.shorter_side, low=0)
  file = files.local(options.json, 'json') if options.json else None
  if importlib.util.find_spec('tensorflow') is None:
    raise UserError('the comparison needs TensorFlow: pip install -r requirements-prepare.txt')
  paths = sorted(path for path in options.images.rglob('*') if path.suffix.lower() in SUFFIXES)
  count = options.count // options.batch_size * options.batch_size
  if not count:
    raise UserError(f'--count={options.count} is less than one batch: give at least --batch_size={options.batch_size}.')
  if not paths:
    raise UserError(f'--images={options.images} holds no .jpg or .jpeg files.')
  if file:
    files.check(file, 'json')  # before the long work
  line(f'{len(paths)} photos, {sum(path.stat().st_size for path in paths) / len(paths) / 1e3:.0f} kB each')
  line(f'{os.cpu_count()} cores; our decoder: {decoder.name()}')
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    for side in (0, options.shorter_side) if options.shorter_side else (0,):
      ways = _ways(paths, pathlib.Path(folder) / str(side), side, options)
      title = f'stored at shorter side {side}' if side else 'untouched originals'
      line(f'\n{title}')
      rates = measure(ways, count, options.rounds)
      report(rates)
      found[title] = {name: dict(zip(COLUMNS, pairs.round(1).T.tolist(), strict=True)) for name, pairs in rates.items()}
  if file:
    about = {'photos': len(paths), 'decoder': decoder.name(), **origin.machine()}
    files.write(file, json.dumps({'about': about, 'sources': found}, indent=1) + '\n', 'json')


def measure(ways: dict[str, Way], count: int, rounds: int) -> dict[str, np.ndarray]:
  """Images per CPU-second and per second of each way and round, f64[rounds, 2]; one round of each warms up."""
  rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
  for number in range(rounds + 1):
    for name, way in ways.items():
      cpu, wall = time.process_time(), time.perf_counter()
      way(count)
      if number:
        rates[name].append((count / (time.process_time() - cpu), count / (time.perf_counter() - wall)))
  return {name: np.asarray(pairs) for name, pairs in rates.items()}


def report(rates: dict[str, np.ndarray]) -> None:
  """Prints the medians, and the median, smallest and largest ratio of a round to the last way's."""
  *_, reference = rates.values()
  line(f'{"":34} {"images/CPU-s":>12} {"images/s":>9} {"ratio":>6}  (of rounds)')
  for name, pairs in rates.items():
    ratios = pairs[:, 0] / reference[:, 0]
    per_cpu, per_second = np.median(pairs, 0)
    spread = f'{ratios.min():.2f}-{ratios.max():.2f}'
    line(f'{name:34} {per_cpu:12.0f} {per_second:9.0f} {np.median(ratios):6.2f}  ({spread})')


def _ways(paths: list[pathlib.Path], folder: pathlib.Path, side: int, options: argparse.Namespace) -> dict[str, Way]:
  builders = {form: _prepare(paths, folder / form, side, form) for form in ('array_record', 'tfrecord')}
  examples = records.Records(pathlib.Path(builders['array_record'].data_path), ['train'])
  rows = np.arange(options.batch_size)
  ours = reader.Reader(examples, 0, options.image_size, True, options.batch_size, rows)

  def read_ours(count: int) -> None:
    calls = [Call(step, 1, options.image_size) for step in range(count // options.batch_size)]
    batches = reader.ahead(calls, ours.train, os.cpu_count() or 1, 0)
    for _ in batches:
      pass
    batches.close()

  theirs = _tf_dataset(builders['tfrecord'], options.image_size)

  def read_theirs(count: int) -> None:
    for _ in theirs.batch(options.batch_size).take(count // options.batch_size).prefetch(2):
      pass

  return {'ours': read_ours, 'tf.data, decode_and_crop_jpeg': read_theirs}


def _prepare(paths: list[pathlib.Path], folder: pathlib.Path, side: int, form: str) -> Any:
  """A prepared dataset of the photos, in one of TFDS's file formats."""

  class Photos(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Photos of a folder, all with label 0."""

    VERSION = tfds.core.Version('1.0.0')
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self) -> tfds.core.DatasetInfo:
      features = {
        'image': tfds.features.Image(encoding_format='jpeg'),
        'label': tfds.features.ClassLabel(num_classes=1),
      }
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
      return {'train': self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
      for number, path in enumerate(paths):
        data = path.read_bytes()
        yield number, {'image': rewrite.smaller(data, str(path), side) if side else data, 'label': 0}

  tfds.disable_progress_bar()
  builder = Photos(data_dir=folder, file_format=form)
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare()
  return builder


def _tf_dataset(builder: Any, image_size: int) -> Any:
  """The way of many ImageNet programs: decode only the crop, in tf.data's threads; bilinear, which is the cheapest."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  import tensorflow as tf

  def crop(example: dict[str, Any]) -> Any:
    data = example['image']
    begin, size, _ = tf.image.sample_distorted_bounding_box(
      tf.io.extract_jpeg_shape(data),
      tf.zeros((1, 0, 4)),
      aspect_ratio_range=(3 / 4, 4 / 3),
      area_range=(0.08, 1.0),
      max_attempts=10,
      use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], size[:2]], 0)
    pixels = tf.image.decode_and_crop_jpeg(data, window, channels=3)
    pixels = tf.image.random_flip_left_right(tf.image.resize(pixels, (image_size, image_size)))
    return {'image': tf.cast(pixels, tf.uint8), 'label': example['label']}

  dataset = builder.as_dataset('train', decoders={'image': tfds.decode.SkipDecoding()})
  return dataset.repeat().map(crop, num_parallel_calls=tf.data.AUTOTUNE)
