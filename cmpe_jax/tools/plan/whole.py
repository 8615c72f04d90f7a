"""The whole run on machines that are not there: hours, chip-hours, cost, CPU cores for the input, and disk."""

import dataclasses
import math
import os
from typing import Any

import jax

from cmpe_jax.data.datasets import folder
from cmpe_jax.errors import UserError, check_range
from cmpe_jax.tools.shared.chips import Chip
from cmpe_jax.training.run import Run
from cmpe_jax.training.schedule import EVALUATE

# Random-resized crops of 224 pixels, images a CPU-second: benchmarks/input.json, on AMD EPYC. See docs/speed.md.
RATE, RATE_STORED = 765.0, 1544.0
ARCHIVES = 147.9e9 + 6.74e9  # bytes of ImageNet's two archives, whose files are stored as they are
STORED = 28.9e3  # bytes of a photo stored at a shorter side of 256: the mean of 200 photos


@dataclasses.dataclass(frozen=True)
class Speed:
  """A compiled step as the whole run sees it.

  Attributes:
    images: the global batch.
    bound: images/s of all devices together at the most.
  """

  images: int
  bound: float


@dataclasses.dataclass(frozen=True)
class Asked:
  """What a user says besides.

  Attributes:
    share: of the bounds that the run is assumed to reach, from 0 to 1; 0: not said.
    price: of a chip-hour, in any currency; 0: not said.
    rate: images that a CPU core reads in a second; 0: as measured here.
  """

  share: float = 0.0
  price: float = 0.0
  rate: float = 0.0

  def check(self) -> None:
    """Raises `UserError` for values that cannot be."""
    check_range('--share', self.share, 0, 1)
    check_range('--price', self.price, 0, 1e9)
    check_range('--images_per_core', self.rate, 0, 1e9)

  def check_chip(self, chip: Chip | None) -> None:
    """Raises `UserError` where something is asked of devices that have no bounds."""
    if chip is None and (self.share or self.price):
      raise UserError(
        '--share and --price need bounds, which fake devices have not: give a --topology such as v5e:4x4 or h100:8.'
      )


@dataclasses.dataclass(frozen=True)
class Work:
  """What there is to do.

  Attributes:
    steps: of training, by side of the images.
    evaluations: passes over the evaluated split, moving averages as a pass of their own.
    evaluated: images of a pass.
  """

  steps: dict[int, int]
  evaluations: int
  evaluated: int


def work(run: Run) -> Work:
  """That of a run whose training split is as large as its dataset says."""
  config, schedule = run.config, run.schedule
  times = sum(EVALUATE in schedule.at(step) for step in range(1, schedule.total + 1))
  held = round(config.validation * run.dataset.counts['train'])
  return Work(schedule.steps_by_side(), times * (2 if config.ema_decay else 1), held or run.dataset.counts['test'])


def hours(todo: Work, train: dict[int, Speed], evaluation: Speed) -> tuple[float, float]:
  """(training, evaluations) in hours at the bounds: nothing else takes time, no step is late."""
  training = sum(steps * train[side].images / train[side].bound for side, steps in todo.steps.items())
  batches = math.ceil(todo.evaluated / evaluation.images)
  return training / 3600, todo.evaluations * batches * evaluation.images / evaluation.bound / 3600


def rows(
  run: Run, train: dict[int, Speed], evaluation: Speed, chips: int, asked: Asked
) -> tuple[list[list[str]], dict[str, Any]]:
  """The table of a run, a column for the bounds and one for a share of them, and the same numbers by name."""
  todo, values = work(run), {}
  shares = [1.0, *([asked.share] if asked.share not in (0, 1) else [])]
  at_bounds = hours(todo, train, evaluation)
  fastest = max(speed.bound for speed in train.values())
  rate = asked.rate or (RATE_STORED if run.config.stored_side else RATE)
  table = [['the whole run', 'at the bounds', *(f'at {share:.0%} of them' for share in shares[1:])]]
  table.append([f'training, {_steps(todo)}', *(_hours(at_bounds[0] / share) for share in shares)])
  table.append([f'{todo.evaluations:,} evaluations', *(_hours(at_bounds[1] / share) for share in shares)])
  for share in shares:
    together = sum(at_bounds) / share
    own = {'hours': together, 'chip_hours': together * chips, 'images_per_second': fastest * share}
    own |= {'cost': own['chip_hours'] * asked.price} if asked.price else {}
    own |= {} if run.dataset.is_resident else {'cores': math.ceil(own['images_per_second'] / rate)}
    values[str(share) if share < 1 else '1'] = own
  table.append(['together', *(_hours(own['hours']) for own in values.values())])
  heading = f'chip-hours of {chips} {"chip" if chips == 1 else "chips"}'
  table.append([heading, *(f'{own["chip_hours"]:,.2f}' for own in values.values())])
  if asked.price:
    heading = f'cost at {asked.price:g} a chip-hour'
    table.append([heading, *(f'{own["cost"]:,.2f}' for own in values.values())])
  if not run.dataset.is_resident:
    table.append(['images/s to read, at most', *(f'{own["images_per_second"]:,.0f}' for own in values.values())])
    heading = f'CPU cores for it, {rate:g} images/s each'
    table.append([heading, *(f'{own["cores"]:,}' for own in values.values())])
  return table, {'steps': todo.steps, 'evaluations': todo.evaluations, 'rate': rate, 'at': values}


def disk(run: Run) -> tuple[list[str], dict[str, float]]:
  """What must be stored: in sentences, and in bytes."""
  config = run.config
  state = jax.eval_shape(run.state, run.variable_shapes())
  one = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
  kept = config.keep_checkpoints + (config.validation > 0) + 1
  data, note = _data(run)
  said = [
    f'Disk for the data: {data / 1e9:,.1f} GB, {note}.',
    f'Disk for checkpoints: {kept} x {one / 1e6:,.0f} MB (keep_checkpoints={config.keep_checkpoints}'
    f'{", the best one" if config.validation else ""}, and one while it is written).',
  ]
  return said, {'data': data, 'checkpoint': one, 'checkpoints': one * kept}


def _data(run: Run) -> tuple[float, str]:
  dataset, images = run.dataset, sum(run.dataset.counts.values())
  if isinstance(dataset.content, folder.Content):
    paths = [path for files in dataset.content.listing.splits.values() for path in files.paths]
    return sum(map(os.path.getsize, paths)), f'the {images:,} files of the folder'
  if dataset.is_cropped and run.config.stored_side:
    part = (run.config.stored_side / 256) ** 2
    return images * STORED * part, 'by the mean of 200 photos stored at 256, and the area'
  if dataset.is_cropped:
    return ARCHIVES, 'the files of the two archives as they are; the archives themselves take as much'
  return images * dataset.image_size**2 * 3, 'decoded, as they are kept beside the records'


def _steps(todo: Work) -> str:
  parts = [f'{steps:,} steps at {side}x{side}' for side, steps in todo.steps.items()]
  return ' and '.join(parts)


def _hours(hours: float) -> str:
  return f'{hours:.3g} h'
