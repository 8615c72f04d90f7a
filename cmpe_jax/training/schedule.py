"""Which events fall on which step: pure functions of the configuration, with nothing to remember."""

import dataclasses
import math
from collections.abc import Iterator

import ml_collections

from cmpe_jax.errors import check_range

LOG, EVALUATE, CHECKPOINT = 'log', 'evaluate', 'checkpoint'


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The events of a run. Step t is the t-th (from 1), after which t steps are done.

  Attributes:
    examples: in the training split.
    batch_size: global.
    total: steps of the whole run.
    every: steps between events by name; 0: once an epoch.
    steps_per_call: training steps a dispatch where no event cuts it.
    select: every checkpoint is evaluated too, because the best one is chosen by it.
  """

  examples: int
  batch_size: int
  total: int
  every: dict[str, int]
  steps_per_call: int = 1
  select: bool = False

  def epoch(self, step: int) -> float:
    """Epochs of data that `step` steps have seen."""
    return step * self.batch_size / self.examples

  def at(self, step: int) -> frozenset[str]:
    """The events of a step; the last step has them all."""
    due = {name for name, every in self.every.items() if step == self.total or self._due(step, every)}
    return frozenset(due | {EVALUATE} if self.select and CHECKPOINT in due else due)

  def _due(self, step: int, every: int) -> bool:
    if every:
      return step % every == 0
    return step * self.batch_size // self.examples > (step - 1) * self.batch_size // self.examples

  def calls(self, start: int) -> Iterator[tuple[int, int]]:
    """(steps done before, number of steps) of each call to the device, from `start` to the end.

    A call covers [k, k + steps_per_call) with k a multiple of steps_per_call, so calls do not depend on `start`;
    where an evaluation or a checkpoint falls inside, single steps take its place (two sizes, two compilations).
    """
    step, size = start, self.steps_per_call
    while step < self.total:
      inside = range(step + 1, step + size)
      whole = step % size == 0 and step + size <= self.total
      whole = whole and not any(self.at(t) & {EVALUATE, CHECKPOINT} for t in inside)
      count = size if whole else 1
      yield step, count
      step += count


def of_config(config: ml_collections.ConfigDict, examples: int) -> Schedule:
  """The schedule of a configuration on a training split with that many examples.

  The last epoch is rounded up to a whole step.

  Raises:
    UserError: a run without an end.
  """
  check_range('epochs', config.epochs, 0, 1e9)
  every = {
    LOG: config.log_every_steps,
    EVALUATE: config.eval_every_steps,
    CHECKPOINT: config.checkpoint_every_steps,
  }
  total = math.ceil(config.epochs * examples / config.batch_size - 1e-6)
  return Schedule(examples, config.batch_size, total, every, config.steps_per_call, select=config.validation > 0)
