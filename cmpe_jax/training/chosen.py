"""Reading a checkpoint of a run that may be training meanwhile, which deletes what it need not keep."""

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import jax
from etils import epath

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import processes
from cmpe_jax.training import saved
from cmpe_jax.training.checkpoint import Checkpoints
from cmpe_jax.training.saved import Damaged

T = TypeVar('T')
ATTEMPTS = 30
PAUSE = 0.2  # seconds, in which a deletion has come further


def read(workdir: str, which: str, action: Callable[[Checkpoints, int], T]) -> T:
  """`action(checkpoints, step)` of the 'best' or 'newest' checkpoint; chosen anew if the run has deleted it meanwhile.

  Raises:
    UserError: there is no checkpoint, or none stays long enough to be read; what `action` raises.
    Damaged: the checkpoint is there, and is not what was written.
  """
  last: epath.Path | None = None
  for _ in range(ATTEMPTS):
    try:
      with contextlib.closing(Checkpoints(workdir)) as found:
        return action(found, found.choose(which))
    except (Damaged, FileNotFoundError, NotADirectoryError) as error:  # the last: Orbax, of what went between two looks
      place = error.path if isinstance(error, Damaged) else None
      # One that appeared when the others had been listed already is there, and can be read the next time.
      if place and place == last and _is_there(place):
        raise
      last, why = place, error
  raise UserError(
    f'{workdir}: the run deleted what was read, {ATTEMPTS} times (the last: {why}): read it when the run has ended.'
  ) from why


def read_together(workdir: str, which: str, action: Callable[[Checkpoints, int], T]) -> T:
  """`read` of one checkpoint by all processes, which does not choose anew where there are several."""
  if jax.process_count() == 1:
    return read(workdir, which, action)
  with contextlib.closing(processes.together('workdir', lambda: Checkpoints(workdir))) as found:
    step = processes.together('checkpoint', lambda: found.choose(which))
    processes.check_same({'checkpoint': step})
    return action(found, step)


def _is_there(place: epath.Path) -> bool:
  time.sleep(PAUSE)
  return int(place.name) in saved.steps(place.parent)
