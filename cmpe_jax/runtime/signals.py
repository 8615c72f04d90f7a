"""SIGTERM and SIGINT as a question that the training loop asks."""

import signal
from types import FrameType
from typing import Any

import jax

from cmpe_jax.runtime.processes import client

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
  """Turns SIGTERM and SIGINT into a question that the loop asks after each call; a second signal ends at once.

  With several processes all get the same answer at the same call, whichever was told to stop: it publishes a call
  some way ahead. The processes are never that far apart, because each waits for the results of the call
  three before, which needs all of them, so each reads the notice before it comes to that call.
  """

  AHEAD = 8

  def __init__(self) -> None:
    self._told = False
    self._asked = 0
    self._at: int | None = None
    self._before = {number: signal.getsignal(number) for number in SIGNALS}

  def __enter__(self) -> 'Stop':
    for number in SIGNALS:
      signal.signal(number, self._tell)
    return self

  def __exit__(self, *error: object) -> None:
    for number in SIGNALS:
      signal.signal(number, self._before[number])

  def _tell(self, number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    self._told = True

  def __call__(self) -> bool:
    """Whether to save and stop now. Every process must ask after every call to the device."""
    if jax.process_count() == 1:
      return self._told
    self._asked += 1
    if self._at is None:
      self._at = self._read(client())
    return self._at is not None and self._asked >= self._at

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
