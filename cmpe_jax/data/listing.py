"""Lists the image files below a folder, and tells their names as bytes."""

import os
import pathlib
import unicodedata
from collections.abc import Iterable, Iterator

from PIL import Image

from cmpe_jax.errors import UserError


def images(folder: pathlib.Path, others: Iterable[pathlib.Path] = ()) -> list[str]:
  """The paths of files at any depth whose suffix Pillow knows, sorted; hidden ones are left out.

  Symbolic links are followed, but each real directory is visited once, and those of `others` never: links in a circle
  multiply nothing.

  Raises:
    UserError: a directory cannot be read; without it the list would be another one for another user.
  """
  suffixes = Image.registered_extensions()
  return sorted(
    os.path.join(parent, name)
    for parent, names in _walk(folder, {os.path.realpath(path) for path in others} - {os.path.realpath(folder)})
    for name in names
    if name[0] != '.' and os.path.splitext(name)[1].lower() in suffixes
  )


def _walk(folder: pathlib.Path, seen: set[str]) -> Iterator[tuple[str, list[str]]]:
  """(directory, its files), real sub-directories before links, so that a link back finds the place taken."""
  for parent, directories, names in os.walk(folder, onerror=_refuse, followlinks=True):
    real = os.path.realpath(parent)
    if real in seen:
      directories.clear()
      continue
    seen.add(real)
    directories.sort(key=lambda name: (os.path.islink(os.path.join(parent, name)), name))
    yield parent, names


def _refuse(error: OSError) -> None:
  raise unreadable(error) from error


def unreadable(error: OSError) -> UserError:
  """What is said of a directory that cannot be listed."""
  return UserError(f'{error.filename} cannot be read ({error.strerror}), and images may lie there.')


def normalized(name: str) -> bytes:
  """A path as the same bytes wherever it lies: disks write accents in one way or the other."""
  return unicodedata.normalize('NFC', name).encode('utf-8', 'surrogateescape')
