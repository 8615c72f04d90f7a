"""Prepares a dataset as ArrayRecord: `python -m cmpe_jax.data.prepare --dataset=cifar10`."""

import contextlib
import fcntl
import io
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import tensorflow_datasets as tfds

from cmpe_jax.data import prepared
from cmpe_jax.errors import UserError


def prepare(name: str, root: pathlib.Path) -> pathlib.Path:
  """Prepares a dataset below `root` and returns its directory; one that is prepared already is left alone."""
  from cmpe_jax.data import digits

  def build(staging: pathlib.Path) -> None:
    builder = digits.Digits(data_dir=staging, file_format='array_record')
    with contextlib.redirect_stdout(io.StringIO()):
      tfds.disable_progress_bar()
      builder.download_and_prepare()
      tfds.enable_progress_bar()

  return install(name, root, build)


def install(name: str, root: pathlib.Path, build: Callable[[pathlib.Path], None]) -> pathlib.Path:
  """Runs `build(staging)`, and moves what it wrote into `root` in one step when it is complete.

  A preparation that is killed leaves only the staging directory, which the next one removes; a second one that
  starts meanwhile waits for the first.

  Raises:
    UserError: `root` cannot be written.
  """
  try:
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f'.{name}.lock'):
      if directory := prepared.find(name, root):
        return directory
      staging = root / f'incomplete.{name}'
      shutil.rmtree(staging, ignore_errors=True)
      try:
        build(staging)
        _move(staging / name, root / name)
      finally:
        shutil.rmtree(staging, ignore_errors=True)
  except OSError as error:
    raise UserError(f'{str(root)!r} cannot be written ({error}). Give another place by data_dir.') from error
  directory = prepared.find(name, root)
  assert directory is not None
  return directory


def _move(source: pathlib.Path, target: pathlib.Path) -> None:
  target.mkdir(exist_ok=True)
  for version in source.iterdir():
    os.rename(version, target / version.name)


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
  with path.open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield
