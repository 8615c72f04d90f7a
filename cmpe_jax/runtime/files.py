"""Files that are never half written."""

import os
import pathlib

from cmpe_jax.errors import UserError


def replace(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file whole or not at all, folders included. Raises `OSError` if it cannot."""
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.with_name(f'.{path.name}.{os.getpid()}')  # two commands may write the same one
  new.write_bytes(content.encode() if isinstance(content, str) else content)
  new.replace(path)


def write(path: pathlib.Path, text: str, flag: str) -> None:
  """`replace` for a file that the user chose by --`flag`. Raises `UserError`, naming both, if it cannot be written."""
  try:
    replace(path, text)
  except OSError as error:
    raise UserError(f'{path} cannot be written ({error.strerror or error}): give another --{flag}.') from error
