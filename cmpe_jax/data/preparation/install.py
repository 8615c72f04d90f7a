"""Makes a prepared dataset and puts it in its place in one step: what was interrupted never looks finished."""

import contextlib
import errno
import fcntl
import io
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow_datasets as tfds

from cmpe_jax.data import archives, datasets, digits, image, prepared, rewrite
from cmpe_jax.errors import UserError

PROBES = 256  # images of a large split that are decoded in the check


def prepare(
  name: str,
  root: pathlib.Path,
  folder: pathlib.Path | None = None,
  adopt: pathlib.Path | None = None,
  shorter_side: int = 0,
  extra: bool = True,
  partial: bool = False,
) -> pathlib.Path:
  """Prepares a dataset below `root`, checks it, and returns its directory.

  Args:
    name: a key of `datasets.KNOWN`.
    root: the data_dir.
    folder: where the archives lie; None: root/downloads/manual, else they are downloaded.
    adopt: a directory that TFDS prepared before (TFRecord or ArrayRecord), instead of archives.
    shorter_side: imagenet2012 only: store images made smaller, as dataset `<name>_<shorter_side>`; 0: originals.
    extra: svhn_cropped only: with its additional training images.
    partial: accept fewer examples than the dataset has, and archives that are not the published ones.

  Raises:
    UserError: wrong name; missing, truncated or damaged archives; no TensorFlow; wrong numbers of examples or labels.
  """
  if name not in datasets.KNOWN:
    raise UserError(f'dataset={name!r} cannot be prepared. Choose one of: {", ".join(datasets.KNOWN)}.')
  if shorter_side and name != 'imagenet2012':
    raise UserError(f'shorter_side={shorter_side} is for imagenet2012; images of {name!r} are small already.')
  stored = prepared.stored_name(name, shorter_side)

  def build(staging: pathlib.Path) -> None:
    _builder(name, root, folder, adopt, shorter_side, extra, partial)(staging)
    (directory,) = staging.joinpath(stored).iterdir()
    check(directory, name, partial)

  directory = _install(stored, root, build)
  missing = set(datasets.KNOWN[name].counts) - set(prepared.counts(directory)) - (set() if extra else {'extra'})
  if missing and not partial:
    raise UserError(f'{str(directory)!r} was prepared without {sorted(missing)}. Remove it and prepare again.')
  return directory


def _builder(
  name: str,
  root: pathlib.Path,
  folder: pathlib.Path | None,
  adopt: pathlib.Path | None,
  shorter_side: int,
  extra: bool,
  partial: bool,
) -> Callable[[pathlib.Path], None]:
  """The function that writes the dataset into the data_dir that it is given."""
  if adopt:
    return lambda staging: rewrite.build(adopt, staging, prepared.stored_name(name, shorter_side), shorter_side)
  if name == 'digits':
    return _write_digits
  builder_class = tfds.builder_cls(name)
  if name == 'svhn_cropped' and not extra:
    builder_class = archives.without_extra(builder_class)
  if shorter_side:
    builder_class = archives.shrunk(builder_class, shorter_side)
  return lambda staging: archives.build(builder_class, staging, root, folder, partial)


def _write_digits(staging: pathlib.Path) -> None:
  """Silently: this happens by itself, in a second, when somebody trains for the first time."""
  tfds.disable_progress_bar()
  try:
    digits.Digits(data_dir=staging, file_format='array_record').download_and_prepare()
  finally:
    tfds.enable_progress_bar()


def check(directory: pathlib.Path, name: str, partial: bool) -> None:
  """Reads the dataset back. Small ones as a whole, which also keeps the decoded arrays; of large ones a sample.

  Raises:
    UserError: another number of examples than the published one, a label out of range, a class without examples, an
      image that cannot be decoded.
  """
  known = datasets.KNOWN[name]
  for split, count in prepared.counts(directory).items():
    if split not in known.counts:
      continue  # ImageNet's test images have no labels
    expected = known.counts[split]
    if count != expected and not partial:
      raise UserError(
        f'{name}: {count:,} examples in split {split!r} instead of {expected:,}. Are the archives complete? '
        '--partial accepts such a dataset, for trials.'
      )
    labels = (
      _sample(directory, split) if known.augmentation == 'random_resized' else prepared.arrays(directory, split)[1]
    )
    if not ((labels >= 0) & (labels < known.num_classes)).all():
      raise UserError(f'{name}: labels of split {split!r} are not all in 0..{known.num_classes - 1}.')
    if len(labels) == expected and (absent := known.num_classes - len(np.unique(labels))):
      raise UserError(f'{name}: {absent} classes have no examples in split {split!r}.')


def _sample(directory: pathlib.Path, split: str) -> np.ndarray:
  source = prepared.open_source(directory, split)
  labels = []
  for position in np.linspace(0, len(source) - 1, min(PROBES, len(source)), dtype=int):
    example = source[int(position)]
    image.decode(example['image'], f'example {position} of split {split!r}')
    labels.append(example['label'])
  return np.asarray(labels)


def _install(name: str, root: pathlib.Path, build: Callable[[pathlib.Path], None]) -> pathlib.Path:
  """Runs `build(staging)`, which writes staging/name/VERSION, then renames that into `root`. Returns root/name/VERSION.

  A dataset that is already there is left alone. A killed preparation leaves only the staging directory, which the
  next one removes; a second process that comes meanwhile waits for the first and finds its result.

  Raises:
    UserError: `root` cannot be written, or its disk is full.
  """
  with _locked(root, name):
    if directory := prepared.find(name, root):
      return directory
    staging = root / f'incomplete.{name}'
    shutil.rmtree(staging, ignore_errors=True)
    try:
      with contextlib.redirect_stdout(io.StringIO()):  # TFDS would say that it is done, before the check
        build(staging)
      (version,) = staging.joinpath(name).iterdir()
      root.joinpath(name).mkdir(exist_ok=True)
      target = root / name / version.name
      os.rename(version, target)
    except OSError as error:
      if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise UserError(f'the disk of {str(root)!r} is full. Make room, or give another --data_dir.') from error
      raise
    finally:
      shutil.rmtree(staging, ignore_errors=True)
  return target


@contextlib.contextmanager
def _locked(root: pathlib.Path, name: str) -> Iterator[None]:
  """The lock ends with the process that holds it, however that ends."""
  try:
    root.mkdir(parents=True, exist_ok=True)
    file = (root / f'.{name}.lock').open('w')
  except OSError as error:
    raise UserError(f'{str(root)!r} cannot be written ({error.strerror}). Give another data_dir.') from error
  with file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield
