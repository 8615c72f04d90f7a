"""Where the time of a start of a run goes: in one phase at a time, and how long the steps take."""

import collections
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

START, TRAINING, DATA, COMPILATION = 'start', 'training', 'data', 'compilation'
EVALUATION, CHECKPOINTS, OTHER = 'evaluation', 'checkpoints', 'other'
PHASES = (TRAINING, DATA, COMPILATION, EVALUATION, CHECKPOINTS, START, OTHER)
WORK = (TRAINING, DATA, EVALUATION, CHECKPOINTS)
"""What is done again for steps that a kill has cost."""
BEHIND = 4  # results that are read after a compilation were computed while it went on: their times say nothing


@dataclasses.dataclass
class Spread:
  """Number, mean and sum of squared deviations of values that come one after the other (Welford 1962)."""

  count: int = 0
  mean: float = 0.0
  squares: float = 0.0

  def add(self, value: float, times: int = 1) -> None:
    """Takes in `times` equal values."""
    self.join(Spread(times, value, 0.0))

  def join(self, other: 'Spread') -> None:
    """Takes in the values of another one (Chan, Golub and LeVeque 1979)."""
    count = self.count + other.count
    if count:
      between = other.mean - self.mean
      self.squares += other.squares + between**2 * self.count * other.count / count
      self.mean += between * other.count / count
      self.count = count

  @property
  def deviation(self) -> float:
    """Of the values, in their unit; 0 for fewer than two."""
    return (self.squares / (self.count - 1)) ** 0.5 if self.count > 1 else 0.0


class Account:
  """The clock of one start: every second since it began is in exactly one phase. It may be read from another thread."""

  def __init__(self, earlier: float = 0.0):
    """`earlier`: seconds that the process took until now."""
    self._follow: Callable[[], None] = lambda: None
    self._began = time.time() - earlier
    self._lock = threading.RLock()
    self._seconds = dict.fromkeys(PHASES, 0.0) | {START: earlier}
    self._phase, self._since = START, time.perf_counter()
    self._first: int | None = None
    self._done = self._compilations = self._skip = 0
    self._worked = 0.0
    self._steps: dict[int, Spread] = collections.defaultdict(Spread)
    self._saved: collections.deque[tuple[int, dict[str, float]]] = collections.deque(maxlen=4)
    self._facts: dict[str, Any] = {}
    self._ended = ''

  def enter(self, phase: str) -> str:
    """Ends the phase that is and begins `phase`; returns the one that was."""
    with self._lock:
      now, before = time.perf_counter(), self._phase
      self._seconds[before] += now - self._since
      self._phase, self._since = phase, now
      if phase == COMPILATION != before:
        self._compilations += 1
        self._skip = BEHIND if before == TRAINING else self._skip
      return before

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """What happens inside belongs to `name`; afterwards goes on what was before."""
    before = self.enter(name)
    try:
      yield
    finally:
      self.enter(before)

  def begins(self, first: int, facts: dict[str, Any]) -> None:
    """All is ready to go on after `first` steps. `facts`: anything that JSON holds, kept as it is."""
    with self._lock:
      self.enter(OTHER)
      self._first = self._done = first
      self._facts = facts

  def finished(self, done: int, count: int, side: int) -> None:
    """The results of a call of `count` steps have come: `done` steps are done. `side`: of its images, in pixels."""
    with self._lock:
      self.enter(self._phase)
      worked = self._seconds[TRAINING] + self._seconds[DATA]
      if self._skip:
        self._skip -= 1
      else:
        self._steps[side].add((worked - self._worked) / count, count)
      self._done, self._worked = done, worked
    self._follow()

  def saved(self, step: int) -> None:
    """A checkpoint of `step` has what was done until now. A second call for a step takes the place of the first."""
    with self._lock:
      self.enter(self._phase)
      if self._saved and self._saved[-1][0] == step:
        self._saved.pop()
      self._saved.append((step, {phase: self._seconds[phase] for phase in WORK}))

  def follow(self, follower: Callable[[], None]) -> None:
    """`follower()` is called after each `finished`."""
    self._follow = follower

  def ends(self, how: str) -> None:
    """'done', 'interrupted' or 'failed'. Who is killed says nothing."""
    self._ended = how

  def record(self) -> dict[str, Any]:
    """All of it until now, as JSON holds it; `Record` reads it."""
    with self._lock:
      self.enter(self._phase)
      return {
        'began': round(self._began, 3),
        'seconds': _rounded(self._seconds),
        'ended': self._ended,
        'first': self._first,
        'done': self._done,
        'compilations': self._compilations,
        'steps': {str(side): [own.count, own.mean, own.squares] for side, own in self._steps.items()},
        'saved': [[step, _rounded(seconds)] for step, seconds in self._saved],
        'facts': self._facts,
      }


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
  return {phase: round(value, 4) for phase, value in seconds.items()}
