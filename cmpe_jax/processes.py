"""Stopping from outside, so that a run can go on later."""

import os
import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
  """Turns SIGTERM and SIGINT into a question that the loop asks after each call; a second signal ends at once.

  With several processes all of them get the same answer at the same call, whichever was told to stop: the notice
  travels through JAX's preemption service, which listens to SIGTERM by itself.
  """

  def __init__(self):
    self._told = False
    self._asked = 0
    self._several = jax.process_count() > 1
    self._before = {number: signal.getsignal(number) for number in SIGNALS}

  def __enter__(self) -> 'Stop':
    for number in (signal.SIGINT,) if self._several else SIGNALS:
      signal.signal(number, self._tell)
    return self

  def __exit__(self, *error: object) -> None:
    for number in (signal.SIGINT,) if self._several else SIGNALS:
      signal.signal(number, self._before[number])

  def _tell(self, number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    if self._several:
      os.kill(os.getpid(), signal.SIGTERM)
    self._told = True

  def __call__(self) -> bool:
    """Whether to save and stop now. Every process must ask after every call to the device."""
    self._asked += 1
    return multihost_utils.reached_preemption_sync_point(self._asked) if self._several else self._told


def first_says(value: bool) -> bool:
  """The first process's answer, in all of them."""
  return bool(multihost_utils.broadcast_one_to_all(value)) if jax.process_count() > 1 else value
