"""Files that are never half written."""

import contextlib
import fcntl
import os
import pathlib
import secrets
from collections.abc import Iterator

from cmpe_jax.errors import UserError


def replace(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file whole or not at all, folders included. Raises `OSError` if it cannot."""
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
