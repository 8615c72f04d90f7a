"""SIGTERM and SIGINT as a question that the training loop asks."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import jax

from cmpe_jax.errors import Interrupted
from cmpe_jax.runtime import processes, watch
from cmpe_jax.runtime.processes import client
from cmpe_jax.runtime.watch import SIGNALS, Answer

T = TypeVar('T')
LOOK = 0.1  # seconds between two looks while a thread is waited for


class Told(Interrupted):
  """A signal came, and this is a moment to end. All processes have it at the same place."""

  def __init__(self) -> None:
    super().__init__(watch.TOLD)  # what the thread says that hears a signal; either may be first


class Stop:
  """Turns SIGTERM and SIGINT into a question that the loop asks after each call; a second signal ends at once.

  With several processes all get the same answer at the same call, whichever was told to stop: it publishes a call
  some way ahead. The processes are never that far apart, because each waits for the results of the call
  three before, which needs all of them, so each reads the notice before it comes to that call.

  A command need not be asked while there is nothing to save (`unsaved` is False): it ends at once.
  """

  AHEAD = 5

  def __init__(self) -> None:
    self._told = self._unsaved = False
    self._asked = 0
    self._at: int | None = None
    # Python gives signals to the main thread only; a run in another one, of a notebook or a service, goes on.
    takes = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    self._before = {number: signal.getsignal(number) for number in takes}

  def __enter__(self) -> 'Stop':
    for number, before in self._before.items():
      if before != signal.SIG_IGN:  # as of `nohup` and `command &`
        signal.signal(number, self._tell)
    watch.answer(Answer.END)
    return self

  def __exit__(self, *error: object) -> None:
    for number, before in self._before.items():
      signal.signal(number, before)
    watch.answer(Answer.INTERRUPT)

  @property
  def unsaved(self) -> bool:
    """Whether there are steps that no checkpoint has, or will have when it is written."""
    return self._unsaved

  @unsaved.setter
  def unsaved(self, value: bool) -> None:
    if value != self._unsaved:
      watch.answer(Answer.ASK if value else Answer.END)
    self._unsaved = value

  def _tell(self, number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    self._told = True
    watch.has_heard()

  def __call__(self) -> bool:
    """Whether to save and stop now. Every process must ask after every call to the device."""
    if jax.process_count() == 1:
      return self._told
    self._asked += 1
    return self._is_known() and self._asked >= (self._at or 0)

  @property
  def is_reason(self) -> bool:
    """Whether a signal to this process, the only one, explains that something ended, such as a process that reads."""
    return jax.process_count() == 1 and self._told

  def check(self) -> None:
    """Asks, and raises `Told`."""
    if self():
      raise Told()

  def unless_told(self, action: Callable[[], T]) -> T:
    """`action()`, a compilation, which may take minutes in native code; it is left alone when a signal comes meanwhile.

    Every process must come here. They go on together when all have done theirs, or leave together.

    Raises:
      Told: a signal came, and KeyboardInterrupt where this `Stop` does not take the signals.
    """
    work, gathering = _Work(action), processes.Gathering('compiled')
    try:
      while not self._is_known() and not (work.is_done(LOOK) and gathering.is_complete(LOOK)):
        pass
      if any(processes.share('told', self._is_known())):
        raise Told()
    except (Told, KeyboardInterrupt):
      watch.leave()
      raise
    return work.result

  def _is_known(self) -> bool:
    """Whether this process, or another that has said so, was told to stop."""
    if jax.process_count() == 1:
      return self._told
    if self._at is None:
      self._at = self._read(client())
    return self._at is not None

  def _read(self, store: Any) -> int | None:
    """The call at which all stop, if one of them was told to."""
    if self._told:
      try:
        store.key_value_set('cmpe_jax/stop', str(self._asked + self.AHEAD))
      except RuntimeError:  # another process was first
        return int(store.blocking_key_value_get('cmpe_jax/stop', 10_000))
    try:
      return int(store.key_value_try_get('cmpe_jax/stop'))
    except RuntimeError:  # nobody was told
      return None


class _Work(threading.Thread):
  """Computes `action()`, and keeps what it returns or raises."""

  def __init__(self, action: Callable[[], Any]):
    super().__init__(daemon=True)
    self._action, self._ended = action, threading.Event()
    self._error: BaseException | None = None
    self.result: Any = None
    self.start()

  def run(self) -> None:
    try:
      self.result = self._action()
    except BaseException as error:
      self._error = error
    self._ended.set()

  def is_done(self, seconds: float) -> bool:
    """Waits so long at most. Raises what the action has raised."""
    ended = self._ended.wait(seconds)
    if self._error:
      raise self._error
    return ended
