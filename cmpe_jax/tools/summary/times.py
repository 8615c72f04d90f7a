"""Where the time of a run went, over all its starts: what was kept, what a kill has cost, and what to do about it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from cmpe_jax.training import account
from cmpe_jax.training.account import Spread

LOST = 'lost'
ROWS = (*account.PHASES[:-1], LOST, account.OTHER)


@dataclasses.dataclass
class Start:
  """One start of a run.

  Attributes:
    began: by time.time().
    seconds: that each of `ROWS` took.
    first: steps that were done before it; None: it ended before it came to them.
    done: steps that were done when it ended.
    kept: of these, those that a later start did not do again.
    ended: 'done', 'interrupted', 'failed', or '': killed, or it goes on.
    compilations: of steps and evaluations.
    steps: {side of the images: seconds a step}.
    facts: what it said of its run.
  """

  began: float
  seconds: dict[str, float]
  first: int | None
  done: int
  kept: int
  ended: str
  compilations: int
  steps: dict[int, Spread]
  facts: dict[str, Any]

  @property
  def total(self) -> float:
    """Seconds from its begin to its last sign of life."""
    return sum(self.seconds.values())

  @property
  def lost(self) -> int:
    """Steps that were done again."""
    return self.done - self.kept


@dataclasses.dataclass
class Times:
  """All starts together.

  Attributes:
    starts: in order.
    unaccounted: (first, last) step of parts of the run for which there is no account.
  """

  starts: list[Start]
  unaccounted: list[tuple[int, int]]

  def seconds(self, row: str) -> float:
    """That one of `ROWS` took in all starts."""
    return sum(start.seconds[row] for start in self.starts)

  @property
  def total(self) -> float:
    """Seconds of all starts."""
    return sum(start.total for start in self.starts)

  @property
  def between(self) -> float:
    """Seconds between the end of a start and the begin of the next."""
    pairs = zip(self.starts, self.starts[1:], strict=False)
    return sum(max(later.began - earlier.began - earlier.total, 0.0) for earlier, later in pairs)

  @property
  def lost(self) -> int:
    """Steps that were done again."""
    return sum(start.lost for start in self.starts)

  def steps(self) -> dict[int, Spread]:
    """{side of the images: seconds a step} of all starts."""
    found: dict[int, Spread] = {}
    for start in self.starts:
      for side, spread in start.steps.items():
        found.setdefault(side, Spread()).join(spread)
    return dict(sorted(found.items()))


def of_records(records: Sequence[dict[str, Any]]) -> Times:
  """The times of the records of all starts, in order.

  A start goes on from a checkpoint. Steps that others had done beyond it are lost, with all that was done since.
  """
  starts: list[Start] = []
  unaccounted: list[tuple[int, int]] = []
  for record in records:
    start = _start(record)
    if start.first is not None:
      for earlier in starts:
        if earlier.first is not None:
          earlier.kept = max(min(earlier.kept, start.first), earlier.first)
      known = max([0, *(earlier.kept for earlier in starts), *(last for _, last in unaccounted)])
      if start.first > known:
        unaccounted.append((known + 1, start.first))
    starts.append(start)
  for i, (start, record) in enumerate(zip(starts, records, strict=True)):
    if any(later.first is not None for later in starts[i + 1 :]):
      _take_lost(start, record)
  return Times(starts, unaccounted)


def _start(record: dict[str, Any]) -> Start:
  seconds = dict.fromkeys(ROWS, 0.0) | record['seconds']
  steps = {int(side): Spread(*values) for side, values in record['steps'].items()}
  rest = {name: record[name] for name in ('began', 'first', 'done', 'ended', 'compilations', 'facts')}
  return Start(seconds=seconds, kept=record['done'], steps=steps, **rest)


def _take_lost(start: Start, record: dict[str, Any]) -> None:
  """Moves to `LOST` what a start did after the checkpoint from which another one went on."""
  if start.first is None or (start.kept == start.done and start.ended in ('done', 'interrupted')):
    return
  saved = {start.first: dict.fromkeys(account.WORK, 0.0)} | dict(record['saved'])
  kept = saved.get(start.kept)
  if kept is None:  # an older checkpoint, after damage to newer ones: in proportion
    part = (start.kept - start.first) / max(start.done - start.first, 1)
    kept = {phase: start.seconds[phase] * part for phase in account.WORK}
  for phase in account.WORK:
    start.seconds[LOST] += start.seconds[phase] - kept[phase]
    start.seconds[phase] = kept[phase]
