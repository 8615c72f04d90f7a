"""Which events fall on which step: pure functions of the configuration, with nothing to remember."""

import dataclasses
import math
from collections.abc import Iterator

import ml_collections

from cmpe_jax.data.source import Call
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
    sides: (steps done, side of the images in pixels from then on), in order, beginning with step 0.
    steps_per_call: training steps a dispatch where no event and no change of the side cuts it.
    select: every checkpoint is evaluated too, because the best one is chosen by it.
  """

  examples: int
  batch_size: int
  total: int
  every: dict[str, int]
  sides: tuple[tuple[int, int], ...]
  steps_per_call: int = 1
  select: bool = False

  def epoch(self, step: int) -> float:
    """Epochs of data that `step` steps have seen."""
    return step * self.batch_size / self.examples

  def side(self, done: int) -> int:
    """The side of the images of the step that follows after `done` steps, in pixels."""
    return [side for first, side in self.sides if first <= done][-1]

  @property
  def largest_side(self) -> int:
    """The side of the images of the steps that need the most of memory and time."""
    return max(side for _, side in self.sides)

  def steps_by_side(self) -> dict[int, int]:
    """How many steps of the whole run are taken at each side: {160: 15015, 192: 5005}."""
    ends = [min(first, self.total) for first, _ in self.sides[1:]] + [self.total]
    found: dict[int, int] = {}
    for (first, side), end in zip(self.sides, ends, strict=True):
      found[side] = found.get(side, 0) + max(end - first, 0)
    return {side: steps for side, steps in found.items() if steps}

  def at(self, step: int) -> frozenset[str]:
    """The events of a step; the last step has them all."""
    due = {name for name, every in self.every.items() if step == self.total or self._due(step, every)}
    return frozenset(due | {EVALUATE} if self.select and CHECKPOINT in due else due)

  def _due(self, step: int, every: int) -> bool:
    if every:
      return step % every == 0
    return step * self.batch_size // self.examples > (step - 1) * self.batch_size // self.examples

  def calls(self, start: int) -> Iterator[Call]:
    """Each call to the device, from `start` to the end.

    A call covers [k, k + steps_per_call) with k a multiple of steps_per_call, so calls do not depend on `start`;
    where an evaluation, a checkpoint or a change of the images' side falls inside, single steps take its place (two
    counts, two compilations a side).
    """
    step, size = start, self.steps_per_call
    while step < self.total:
      inside, side = range(step + 1, step + size), self.side(step)
      whole = step % size == 0 and step + size <= self.total
      whole = whole and not any(self.at(t) & {EVALUATE, CHECKPOINT} or self.side(t) != side for t in inside)
      count = size if whole else 1
      yield Call(step, count, side)
      step += count


def of_config(config: ml_collections.ConfigDict, examples: int) -> Schedule:
  """The schedule of a (resolved) configuration on a training split with that many examples.

  The last epoch is rounded up to a whole step, and so are the points where the side of the images changes.

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
  points = [0, *(math.ceil(fraction * total - 1e-6) for fraction in config.train_size_fractions)]
  sides = tuple(zip(points, config.train_image_sizes or (config.image_size,), strict=True))
  return Schedule(examples, config.batch_size, total, every, sides, config.steps_per_call, select=config.validation > 0)
