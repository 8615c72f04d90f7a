"""`WORKDIR/starts/NUMBER.json`: a small file a start of a run, with its clock, that outlives whatever ends the start.

The lines of metrics.jsonl past a restored step are dropped; what those steps cost stays here.
"""

import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from etils import epath

from cmpe_jax.errors import Interrupted, UserError
from cmpe_jax.runtime import places, watch
from cmpe_jax.runtime.printing import line
from cmpe_jax.training.account import Account

FOLDER = 'starts'
PERIOD, BUCKET_PERIOD = 1.0, 30.0  # seconds between two versions of a file while nothing else writes it
SHARE = 0.01  # of the time, which writing for each call may take


class Kept:
  """Writes the clock of a start now and then, and at its end. On a disk also when a call to the device is finished.

  A run does not end for the sake of its account: a failure to write it is told, and it is written no more.
  """

  def __init__(self, account: Account, workdir: str):
    place = places.place(workdir) / FOLDER
    self._account, self._place = account, place
    self._file: int | None = None
    self._length, self._cost, self._last = 0, math.inf, 0.0
    self._lock, self._over = threading.Lock(), threading.Event()
    self._is_written = False
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def begin(self) -> None:
    """Makes the file, whose number is the next one."""
    with self._telling():
      numbers = [int(path.stem) for path in paths(self._place)]
      self._path = self._place / f'{max(numbers, default=0) + 1:04d}.json'
      if not places.is_bucket(self._place):
        self._place.mkdir(parents=True, exist_ok=True)
        self._file = os.open(os.fspath(self._path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
      self._is_written = True
    self.write()
    self._thread.start()
    if self._file is not None:
      self._account.follow(self._update)

  def _update(self) -> None:
    if time.perf_counter() - self._last > self._cost / SHARE:
      self.write()

  def write(self) -> None:
    """Writes now, unless this has not begun, has failed, or is closed."""
    with self._lock, self._telling():
      if not self._is_written:
        return
      began = time.perf_counter()
      text = json.dumps(self._account.record())
      if self._file is None:
        self._path.write_text(text + '\n')
      else:  # in place, and never shorter: a kill leaves one version or the next
        self._length = max(self._length, len(text))
        os.pwrite(self._file, (text.ljust(self._length) + '\n').encode(), 0)
      self._last = time.perf_counter()
      self._cost = min(self._cost, self._last - began)

  def close(self) -> None:
    """Writes the end."""
    self._over.set()
    self._thread.join()
    self.write()
    with self._lock:  # the thread that answers a signal may be about to write as well, and the number be another file's
      self._is_written = False
      if self._file is not None:
        os.close(self._file)

  def _watch(self) -> None:
    while not self._over.wait(PERIOD if self._file is not None else BUCKET_PERIOD):
      self.write()

  @contextlib.contextmanager
  def _telling(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:
      passing = isinstance(places.explain(error), Interrupted)  # the next time may succeed
      self._is_written = self._is_written and passing
      line(f'{self._place}: the account of the time could not be written ({error})', sys.stderr)


@contextlib.contextmanager
def keep(account: Account, workdir: str, is_first: bool) -> Iterator[Kept | None]:
  """Keeps an account in a workdir while this is open, and how it ended; only the first process does."""
  kept = Kept(account, workdir) if is_first else None
  if kept:
    kept.begin()
  how = 'failed'

  def ended_by_signal() -> None:
    account.ends('interrupted')
    if kept:
      kept.write()

  with watch.before_end(ended_by_signal):  # until it is closed: the process may be ended while this thread is about to
    try:
      yield kept
      how = 'done'
    except (Interrupted, KeyboardInterrupt):
      how = 'interrupted'
      raise
    finally:
      account.ends(how)
      if kept:
        kept.close()


def paths(place: epath.Path) -> list[epath.Path]:
  """The files of a folder of starts, in order."""
  found = place.iterdir() if place.exists() else ()  # a bucket has no empty folders
  return sorted(
    (path for path in found if path.suffix == '.json' and path.stem.isdigit()), key=lambda path: int(path.stem)
  )


def read(workdir: str) -> list[dict[str, Any]]:
  """The records of a run's starts, see `Account.record`, in order.

  Raises:
    UserError: there are none, or one cannot be read.
  """
  place = places.place(workdir)
  if not place.exists():
    raise UserError(f'workdir={workdir!r} does not exist: give the --workdir of a training run.')
  found = paths(place / FOLDER)
  if not found:
    raise UserError(
      f'workdir={workdir!r} has no account of its time ({FOLDER}/): it is not that of a training run, or the run is of '
      'a version before 1.1, which kept none. A start with this version begins one.'
    )
  return [_record(path) for path in found]


def _record(path: epath.Path) -> dict[str, Any]:
  for _ in range(3):  # a run that goes on may be writing it
    with contextlib.suppress(ValueError):
      return json.loads(path.read_text())
    time.sleep(0.05)
  raise UserError(f'{path} is damaged: remove it to see the account of the other starts.')
