"""Files that are never half written."""

import contextlib
import errno
import fcntl
import os
import pathlib
import re
import secrets
import tempfile
from collections.abc import Iterator

from cmpe_jax.errors import UserError

COLLAPSED = r'(gs|s3|hdfs|https?):/'  # what pathlib makes of a bucket's gs://; a folder here


def replace(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file whole or not at all, folders included.

  Raises:
    OSError: it cannot.
    UserError: the path was a bucket's.
  """
  if re.match(COLLAPSED, str(path)):
    raise _of_bucket(str(path))
  data = content.encode() if isinstance(content, str) else content
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.parent / f'.{path.name}.{secrets.token_hex(8)}'  # others may write the same one, on other machines too
  try:
    new.write_bytes(data)
    new.replace(path)
  except BaseException:
    new.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def alone(path: pathlib.Path) -> Iterator[None]:
  """Waits until no other process of this machine is here for a file, folders included: to read it and write it anew.

  It is the folder that is locked, so that nothing is left behind; where the file system has no locks, nothing is.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  folder = os.open(path.parent, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):
      fcntl.flock(folder, fcntl.LOCK_EX)
    yield
  finally:
    os.close(folder)


def local(given: str, flag: str) -> pathlib.Path:
  """The path that --`flag` gave for what a tool writes, ~ replaced. Raises `UserError`: it is a bucket's."""
  if '://' in given:
    raise _of_bucket(f'--{flag}={given}')
  return pathlib.Path(given).expanduser()


def _of_bucket(named: str) -> UserError:
  return UserError(f'{named} is in a bucket, but this is written to a disk of this machine: give a path there.')


def check(path: pathlib.Path, flag: str) -> None:
  """Tries to write beside a file that will be written after long work, and leaves nothing there but its folder.

  Raises:
    UserError: the file that --`flag` chose could not be written.
  """
  with chosen(path, flag):
    if path.is_dir():
      raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
      pass


def write(path: pathlib.Path, text: str, flag: str) -> None:
  """`replace` for a file that the user chose by --`flag`. Raises `UserError`, naming both, if it cannot be written."""
  with chosen(path, flag):
    replace(path, text)


@contextlib.contextmanager
def chosen(path: pathlib.Path, flag: str) -> Iterator[None]:
  """Whatever goes wrong inside with a file that the user chose by --`flag` is a `UserError` that names both."""
  try:
    yield
  except OSError as error:
    raise UserError(f'{path} cannot be written ({error.strerror or error}): give another --{flag}.') from error
