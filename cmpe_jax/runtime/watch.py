"""SIGTERM and SIGINT to a command, heard even while native code holds its main thread, as a compilation does.

Python's own handlers wait until that code returns. Its C handler writes the signal's number into a pipe at once, which
a thread reads. What that does depends on what would be lost (`Answer`).
"""

import atexit
import contextlib
import ctypes
import enum
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 5.0  # seconds in which a main thread that has its KeyboardInterrupt can clean up
POLL = 0.5  # seconds between two looks at whether another process was told to end
RESUMABLE = 75
ENDED = 'cmpe_jax/ended'
AGAIN = 'The same command goes on from what was saved.'
TOLD = f'interrupted. {AGAIN}'
PEER = 'another process was told to end, and this one ends too: the same command goes on from what was saved.'


class Answer(enum.Enum):
  """What a signal does."""

  INTERRUPT = enum.auto()  # the main thread gets a KeyboardInterrupt; what has not ended in `GRACE` ends without it
  END = enum.auto()  # there is nothing new to be saved: the process ends at once
  ASK = enum.auto()  # nothing here: the training loop asks, and saves


class Watch:
  """The thread that listens, of a process that is a command."""

  def __init__(self) -> None:
    self.told = False
    self.store: Callable[[], Any] = lambda: None  # the key-value store of several processes, once they have met
    self.has_left = False  # a thread, for which nobody waits any more
    self.last: list[Callable[[], None]] = []  # what is still done before the process ends at once
    self._has_said = False  # the command has ended, with its sentence; the process may wait for threads
    self._answer, self._lock = Answer.INTERRUPT, threading.Lock()

  @contextlib.contextmanager
  def listening(self) -> Iterator[None]:
    """Takes the signals, and gives them back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number in SIGNALS if before[number] != signal.SIG_IGN]  # as of `nohup` and `command &`
    for number in ours:
      signal.signal(number, self._interrupt)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread = threading.Thread(target=self._listen, args=(reading,), daemon=True)
    thread.start()
    try:
      yield
    finally:
      self._has_said = True
      signal.set_wakeup_fd(woken)
      for number in ours:
        signal.signal(number, before[number])
      atexit.register(_ignore)
      if self.store() is None:  # else it goes on looking at the others, while JAX waits for them to close as well
        os.write(writing, b'\0')
        os.close(writing)

  def _interrupt(self, number: int, frame: FrameType | None) -> None:
    """In the main thread, which may be back from here before the thread that listens has had its turn."""
    self.told = True
    signal.default_int_handler(number, frame)

  def answer(self, how: Answer) -> None:
    """What the next signal does. Does not return where one that is being answered ends the process."""
    with self._lock:
      self._answer = how

  def _listen(self, pipe: int) -> None:
    while True:
      heard = os.read(pipe, 64) if select.select([pipe], [], [], POLL)[0] else b''
      for number in SIGNALS:
        if number in heard:
          self._hear(number)
      if 0 in heard:  # after a signal that came at the same time: the process may wait for threads, which must not last
        os.close(pipe)
        return
      if _is_told(self.store()):
        self._end(PEER)

  def _hear(self, number: int) -> None:
    ctypes.CDLL(None).signal(int(number), 0)  # SIG_DFL: a second one ends at once
    self.told = True
    with self._lock:
      how = self._answer
      if how is Answer.END:
        _tell(self.store())
        self._end(TOLD)
    if how is Answer.INTERRUPT:
      _tell(self.store())
      time.sleep(GRACE)
      self._end('' if self._has_said else TOLD)

  def _end(self, said: str) -> None:
    for action in reversed(self.last):  # the outermost is the last, as where `with` ends
      _briefly(action)
    with contextlib.suppress(OSError):  # nobody reads any more, as of `| tee log`, which Ctrl-C ends as well
      os.write(2, f'{said}\n'.encode() if said else b'')
    os._exit(RESUMABLE)


_watch: Watch | None = None


@contextlib.contextmanager
def begin() -> Iterator[None]:
  """This process is a command: signals end it, and it may be ended from a thread."""
  global _watch
  if threading.current_thread() is not threading.main_thread() or _watch:
    yield
    return
  _watch = Watch()
  try:
    with _watch.listening():
      yield
  finally:
    _watch = None


def answer(how: Answer) -> None:
  """What a signal does from now on; nothing in a process that is no command, such as a notebook."""
  if _watch:
    _watch.answer(how)


def told() -> bool:
  """Whether this command has had a signal at any time."""
  return _watch is not None and _watch.told


def has_heard() -> None:
  """A signal has come: for whoever takes the signals in the place of this module, and may be the first to know."""
  if _watch:
    _watch.told = True


def meet(store: Callable[[], Any]) -> None:
  """From now on this process is one of several: if one ends at once, all do. `store` gives JAX's key-value store."""
  if _watch:
    _watch.store = store


@contextlib.contextmanager
def before_end(action: Callable[[], None]) -> Iterator[None]:
  """While this is open, a process that ends at once does `action` first, if it takes no more than two seconds."""
  if _watch:
    _watch.last.append(action)
  try:
    yield
  finally:
    if _watch:
      _watch.last.remove(action)


def leave() -> None:
  """A thread that computes is not waited for any more."""
  if _watch:
    _watch.has_left = True


def end_together(code: int) -> None:
  """Ends an interrupted process, and tells the others, if it is one of several: else they would wait for its heart."""
  if _watch and (store := _watch.store()) is not None:
    _tell(store)
    os._exit(code)


def close(code: int) -> None:
  """Ends the process if a thread was left alone: the interpreter's own end would wait for native code, or crash.

  It crashes, now and then, where such a thread ends just then: what JAX keeps for it wants the interpreter once more.
  """
  if _watch and _watch.has_left:
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(OSError):
        stream.flush()
    os._exit(code)


def _ignore() -> None:
  """While the interpreter ends: the exit code is decided."""
  for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)


def _is_told(store: Any) -> bool:
  if store is None:
    return False
  try:
    return bool(store.key_value_try_get(ENDED))
  except Exception:  # nobody was, or there is no store any more
    return False


def _tell(store: Any) -> None:
  """Tells the other processes, and waits until they have looked; not for long, for the store may be gone."""
  if store is None:
    return

  _briefly(lambda: store.key_value_set(ENDED, 'yes', allow_overwrite=True))
  time.sleep(2 * POLL)


def _briefly(action: Callable[[], None]) -> None:
  """Does it, unless it fails or takes too long."""

  def attempt() -> None:
    with contextlib.suppress(Exception):
      action()

  attempting = threading.Thread(target=attempt, daemon=True)
  attempting.start()
  attempting.join(2.0)
