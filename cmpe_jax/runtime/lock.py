"""One run at a time in a workdir: a lock on a disk, a lease in a bucket. Those who only read take neither.

Two runs in one workdir would remove each other's half-written checkpoints and mix their metrics.
"""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from etils import epath

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import places, watch
from cmpe_jax.runtime.printing import line

FILE, LEASE = '.lock', '.lease'
RENEWAL = 15.0  # seconds between two signs of life of a lease
PATIENCE = 60.0  # seconds without one after which its holder counts as dead
LOST = 'another run has taken over this workdir: this one ends (exit code 75).'


@contextlib.contextmanager
def hold(workdir: str) -> Iterator[None]:
  """Keeps others out of a workdir, which is made if it is not there. To be called by the first process only.

  Raises:
    UserError: another run writes there, or the workdir cannot be written.
  """
  place = places.place(workdir)
  with _lease(place) if places.is_bucket(place) else _lock(place):
    yield


@contextlib.contextmanager
def _lock(place: epath.Path) -> Iterator[None]:
  """The lock ends with the process that holds it, however that ends."""
  try:
    place.mkdir(parents=True, exist_ok=True)
    file = open(os.fspath(place / FILE), 'a+')  # noqa: SIM115  # it is closed below, and not before
  except OSError as error:
    raise places.explain(error) or UserError(
      f'workdir={str(place)!r} cannot be written ({error.strerror or error}): give another --workdir.'
    ) from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.seek(0)
      raise _taken(place, file.read()) from error
    except OSError as error:
      print(f'{place} is on a disk without locks ({error.strerror}): start no second run there', file=sys.stderr)
    file.truncate(0)
    file.write(json.dumps(_me()))
    file.flush()
    yield


@contextlib.contextmanager
def _lease(place: epath.Path) -> Iterator[None]:
  """An object that its holder writes anew every `RENEWAL` seconds, each time on condition that it is still its own."""
  places.check_bucket(place)
  from google.cloud import storage

  bucket, _, prefix = str(place).removeprefix('gs://').partition('/')
  lease = _Lease(storage.Client().bucket(bucket), f'{prefix.rstrip("/")}/{LEASE}')
  lease.take(place)
  ended = threading.Event()
  thread = threading.Thread(target=lease.renew, args=(ended,), daemon=True)
  thread.start()

  def end() -> None:
    ended.set()
    with contextlib.suppress(Exception):  # a lease that stays runs out
      lease.release()

  with watch.before_end(end):  # the next start need not wait
    try:
      yield
    finally:
      ended.set()
      thread.join()
      end()


class _Lease:
  """An object of a bucket, written on condition of the generation that one knows."""

  def __init__(self, bucket: Any, name: str):
    self._bucket, self._name, self._generation = bucket, name, 0
    self._changing = threading.Lock()

  @property
  def object(self) -> Any:
    """Without a memory: one that knows a generation asks for that one only."""
    return self._bucket.blob(self._name)

  def _now(self) -> tuple[int, str]:
    """The generation that is there, and what it says; (0, '') if there is none."""
    found = self._bucket.get_blob(self._name)
    return (found.generation, found.download_as_text()) if found else (0, '')

  def _write(self, generation: int) -> None:
    written = self.object
    written.upload_from_string(json.dumps(_me()), if_generation_match=generation)
    self._generation = written.generation

  def take(self, place: epath.Path) -> None:
    """Returns once it is ours: an old one that is not renewed within `PATIENCE` counts for nothing."""
    from google.api_core import exceptions

    began, first = time.monotonic(), None
    while True:
      current, text = self._now()
      if current and first is None:
        first = current
        line(f'{place} was in use: waiting up to {PATIENCE:.0f} s for its lease to run out ...', sys.stderr)
      if current not in (0, first):
        raise _taken(place, text)
      if current == 0 or time.monotonic() - began > PATIENCE:
        with contextlib.suppress(exceptions.PreconditionFailed):  # somebody else was faster: look again
          return self._write(current)
      time.sleep(1.0)

  def release(self) -> None:
    """Removes the lease if it is still ours. Raises what the client raises if it is not, or storage does not answer."""
    with self._changing:
      self.object.delete(if_generation_match=self._generation)

  def renew(self, ended: threading.Event) -> None:
    """Ends the process at once if the lease is another's: from then on everything that it writes would be wrong."""
    while not ended.wait(RENEWAL):
      with self._changing:
        if ended.is_set():  # it may be given back
          return
        try:
          self._renew()
        except Exception as error:  # storage that does not answer is no reason to end: the others wait
          line(f'the lease of the workdir could not be renewed ({error}); it is tried again', sys.stderr)

  def _renew(self) -> None:
    from google.api_core import exceptions

    try:
      self._write(self._generation)
    except exceptions.PreconditionFailed:
      self._generation, text = self._now()
      if _KEY not in text:  # else it is ours: the answer to our own write was lost
        line(LOST, sys.stderr)
        os._exit(75)


_KEY = secrets.token_hex(8)


def _me() -> dict[str, Any]:
  return {'host': socket.gethostname(), 'process': os.getpid(), 'key': _KEY}


def _taken(place: epath.Path, text: str) -> UserError:
  try:
    found = json.loads(text)
    who = f'process {found["process"]} on {found["host"]}'
  except (ValueError, KeyError, TypeError):
    who = 'another process'
  return UserError(f'workdir={str(place)!r} is in use by {who}: wait for that run, stop it, or give another --workdir.')
