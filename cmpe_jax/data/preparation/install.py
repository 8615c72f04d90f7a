"""Makes a prepared dataset and puts it in its place in one step: what was interrupted never looks finished."""

import contextlib
import dataclasses
import errno
import fcntl
import io
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from cmpe_jax.data import damage, image, records
from cmpe_jax.data.preparation import rewrite
from cmpe_jax.errors import UserError

PROBES = 256  # images of a large split that are decoded in the check


@dataclasses.dataclass(frozen=True)
class Request:
  """How a dataset is to be records.

  Attributes:
    folder: where the archives lie; None: root/downloads/manual, else they are downloaded.
    adopt: a directory that TFDS prepared before (TFRecord or ArrayRecord), instead of archives.
    shorter_side: store images made smaller, as dataset `<name>_<shorter_side>`; 0: originals.
    extra: svhn_cropped only: with its additional training images.
    partial: accept fewer examples than the dataset has, and archives that are not the published ones.
  """

  folder: pathlib.Path | None = None
  adopt: pathlib.Path | None = None
  shorter_side: int = 0
  extra: bool = True
  partial: bool = False


class Preparable(Protocol):
  """What must be known of a dataset to prepare it; see `datasets.tfds.TfdsDataset`."""

  @property
  def name(self) -> str: ...
  @property
  def num_classes(self) -> int: ...
  @property
  def counts(self) -> dict[str, int]: ...
  @property
  def is_large(self) -> bool: ...
  @property
  def stores_smaller(self) -> bool: ...

  def stored_name(self, shorter_side: int) -> str:
    """The name under which it is stored."""
    ...

  def missing(self, have: set[str], request: Request) -> set[str]:
    """The splits that should be there and are not."""
    ...

  def write(self, staging: pathlib.Path, root: pathlib.Path, request: Request) -> None:
    """Writes it into the data_dir `staging`."""
    ...


def prepare(dataset: Preparable, root: pathlib.Path, request: Request) -> pathlib.Path:
  """Prepares a dataset below the data_dir `root`, checks it, and returns its directory.

  Raises:
    UserError: missing, truncated or damaged archives; no TensorFlow; wrong numbers of examples or labels.
  """
  if request.shorter_side and not dataset.stores_smaller:
    raise UserError(
      f'shorter_side={request.shorter_side} is for imagenet2012; images of {dataset.name!r} are small already.'
    )
  stored = dataset.stored_name(request.shorter_side)

  def build(staging: pathlib.Path) -> None:
    if request.adopt:
      rewrite.build(request.adopt, staging, stored, request.shorter_side)
    else:
      dataset.write(staging, root, request)
    (directory,) = staging.joinpath(stored).iterdir()
    try:
      check(directory, dataset, request.partial)
    except damage.Damaged as error:
      if request.adopt:  # what was written is not kept, and is as good as what was read
        raise UserError(f'{str(request.adopt)!r} is damaged: {error.why}. Copy it again.') from error
      raise

  directory = _install(stored, root, build, request.adopt)
  if not request.partial:
    have = records.counts(directory)
    if missing := dataset.missing(set(have), request):
      raise UserError(f'{str(directory)!r} was prepared without {sorted(missing)}. Remove it and prepare again.')
    for split, count in have.items():
      if count != dataset.counts.get(split, count):  # ImageNet's test images have no labels, and no number here
        raise UserError(
          f'{str(directory)!r} was prepared with --partial: {count:,} examples in split {split!r} instead of '
          f'{dataset.counts[split]:,}. Remove it and prepare again, or give --partial.'
        )
  return directory


def check(directory: pathlib.Path, dataset: Preparable, partial: bool) -> None:
  """Reads the dataset back. Small ones as a whole, which also keeps the decoded arrays; of large ones a sample.

  Raises:
    UserError: another number of examples than the published one, a label out of range, a class without examples, an
      image that cannot be decoded.
  """
  name, classes = dataset.name, dataset.num_classes
  for split, count in records.counts(directory).items():
    if split not in dataset.counts:
      continue  # ImageNet's test images have no labels
    expected = dataset.counts[split]
    if count != expected and not partial:
      raise UserError(
        f'{name}: {count:,} examples in split {split!r} instead of {expected:,}. Are the archives complete? '
        '--partial accepts such a dataset, for trials.'
      )
    labels = _sample(directory, split) if dataset.is_large else records.arrays(directory, split)[1]
    if not ((labels >= 0) & (labels < classes)).all():
      raise UserError(f'{name}: labels of split {split!r} are not all in 0..{classes - 1}.')
    if len(labels) == expected and (absent := classes - len(np.unique(labels))):
      raise UserError(f'{name}: {absent} classes have no examples in split {split!r}.')


def _sample(directory: pathlib.Path, split: str) -> np.ndarray:
  source = records.open_source(directory, split)
  labels = []
  for position in np.linspace(0, len(source) - 1, min(PROBES, len(source)), dtype=int):
    example = source[int(position)]
    image.decode(example['image'], f'example {position} of split {split!r}')
    labels.append(example['label'])
  return np.asarray(labels)


def _install(
  name: str, root: pathlib.Path, build: Callable[[pathlib.Path], None], adopt: pathlib.Path | None
) -> pathlib.Path:
  """Runs `build(staging)`, which writes staging/name/VERSION, then renames that into `root`. Returns root/name/VERSION.

  A dataset that is already there is left alone, unless it is the one to `adopt` and of another format: what is built
  takes its place. A killed preparation leaves only the staging directory, which the next one removes; a second process
  that comes meanwhile waits for the first and finds its result.

  Raises:
    UserError: `root` cannot be written, or its disk is full; another dataset in another format is there.
  """
  with _locked(root, name):
    _put_back(name, root)
    if directory := records.find(name, root):
      made = records.builder(directory)
      if records.is_array_record(made):
        return directory
      if adopt is None or adopt.resolve() != directory.resolve():
        records.check_format(directory, made)
    staging = root / f'incomplete.{name}'
    shutil.rmtree(staging, ignore_errors=True)
    try:
      with contextlib.redirect_stdout(io.StringIO()):  # TFDS would say that it is done, before the check
        build(staging)
      (version,) = staging.joinpath(name).iterdir()
      target = root / name / version.name
      _exchange(version, target, _aside(name, root))
    except OSError as error:
      if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise UserError(f'the disk of {str(root)!r} is full. Make room, or give another --data_dir.') from error
      raise
    finally:
      shutil.rmtree(staging, ignore_errors=True)
  return target


def _aside(name: str, root: pathlib.Path) -> pathlib.Path:
  """Where a dataset lies for the moment in which another one takes its place."""
  return root / f'replaced.{name}'


def _exchange(new: pathlib.Path, target: pathlib.Path, aside: pathlib.Path) -> None:
  """Puts a checked dataset in its place; what was there is removed last."""
  target.parent.mkdir(exist_ok=True)
  if target.exists():
    aside.mkdir()
    os.rename(target, aside / target.name)
  os.rename(new, target)
  shutil.rmtree(aside, ignore_errors=True)


def _put_back(name: str, root: pathlib.Path) -> None:
  """After a process that was killed in `_exchange`: either the new one is in its place, or the old one is."""
  for old in _aside(name, root).glob('*'):
    if not root.joinpath(name, old.name).exists():
      os.rename(old, root / name / old.name)
  shutil.rmtree(_aside(name, root), ignore_errors=True)


@contextlib.contextmanager
def _locked(root: pathlib.Path, name: str) -> Iterator[None]:
  """The lock ends with the process that holds it, however that ends."""
  try:
    root.mkdir(parents=True, exist_ok=True)
    file = (root / f'.{name}.lock').open('w')
  except OSError as error:
    raise UserError(f'{str(root)!r} cannot be written ({error.strerror}). Give another data_dir.') from error
  with file:
    with contextlib.suppress(OSError):  # a disk without locks
      fcntl.flock(file, fcntl.LOCK_EX)
    yield
