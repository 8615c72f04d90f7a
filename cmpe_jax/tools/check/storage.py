"""The workdir: written, read, seen by all processes, and left as it was."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator

import jax
from etils import epath

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import places, processes

SIZE = 2**20  # bytes
MARK = '.check'


@contextlib.contextmanager
def left_as_it_was(workdir: str) -> Iterator[None]:
  """Removes, at the end, the folders that were not there at the beginning and are empty, and the mark."""
  place = places.place(workdir)
  new = [] if places.is_bucket(place) else [path for path in (place, *place.parents) if not path.exists()]
  processes.barrier('before the workdir')  # else a process finds what another has made
  try:
    yield
    processes.barrier('after the workdir')
  finally:
    with contextlib.suppress(OSError):  # what failed has been told by then
      if jax.process_index() == 0:
        (place / MARK).unlink(missing_ok=True)
      for path in new:  # from the inside to the outside; on a disk of its own each process removes its own
        os.rmdir(path)


def write_and_read(workdir: str) -> float:
  """Seconds for a file of random bytes, written, read and removed.

  Raises:
    UserError: it cannot be written, or is read as something else.
    Interrupted: a storage that did not answer.
  """
  place = places.place(workdir)
  places.check_bucket(place)
  path, content = place / f'{MARK}-{jax.process_index()}-{secrets.token_hex(4)}', secrets.token_bytes(SIZE)
  began = time.perf_counter()
  try:
    place.mkdir(parents=True, exist_ok=True)
    try:
      path.write_bytes(content)
      read = path.read_bytes()
    finally:
      _remove(path)
  except OSError as error:
    raise places.explain(error) or UserError(
      f'workdir={workdir!r} cannot be written ({error.strerror or error}): give another --workdir.'
    ) from error
  if read != content:
    raise UserError(f'workdir={workdir!r} gives back other bytes than were written: give another --workdir.')
  return time.perf_counter() - began


def tell_written(workdir: str, every: list[float]) -> str:
  """One line."""
  return f'{workdir} is written and read, {SIZE / 2**20:.0f} MiB in {max(every):.2f} s'


def _remove(path: epath.Path) -> None:
  with contextlib.suppress(OSError):  # the failure to write it is the one that counts
    path.unlink(missing_ok=True)


def see_one_place(workdir: str) -> str:
  """The mark of process 0, as this process reads it."""
  return processes.workdir_mark(workdir, MARK)


def tell_place(workdir: str, marks: list[str]) -> str:
  """One line. Raises `UserError`, naming the processes, if not all see process 0's mark."""
  blind = [str(process) for process, mark in enumerate(marks) if mark != marks[0]]
  if blind:
    raise UserError(
      f'process {", ".join(blind)} does not see what process 0 writes into workdir={workdir!r}: give a bucket, or a '
      'folder of a file system that all machines share.'
    )
  return f'all {len(marks)} processes see one workdir' if len(marks) > 1 else 'one process'
