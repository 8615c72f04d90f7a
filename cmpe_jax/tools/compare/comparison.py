"""What came out of a comparison: a row for each variant, and the words that one must know to read them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import ml_collections

from cmpe_jax.data import datasets
from cmpe_jax.tools.compare import paired
from cmpe_jax.tools.compare.cells import Cell, Variant
from cmpe_jax.tools.shared import sizes

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
  """What is known of one variant, over its seeds.

  Attributes:
    name: of the variant.
    parameters: trainable ones.
    accuracies: on the test split, from 0 to 1, one a seed.
    losses: the same.
    mean, deviation: of the accuracies, in percent.
    seconds: of training, mean a run.
    speed: images a second.
    differences: to each reference, in percentage points of accuracy; without the one to itself.
  """

  name: str
  parameters: int
  accuracies: list[float]
  losses: list[float]
  mean: float
  deviation: float
  seconds: float
  speed: float
  differences: dict[str, paired.Difference]


class Comparison:
  """Turns the results of cells into a table."""

  def __init__(
    self,
    name: str,
    config: ml_collections.ConfigDict,
    variants: Sequence[Variant],
    references: Sequence[str],
    cells: Sequence[Cell],
  ):
    """`name`: of the configuration; `references`: names of variants; `cells`: all, a seed of each variant by turns."""
    dataset = datasets.describe(config)
    self.name, self.config = name, dataset.resolve(config)
    self.variants, self.references, self._cells = list(variants), list(references), list(cells)
    self.seeds = len(cells) // len(variants)
    self._parameters = {
      variant.name: sizes.parameters(dataset.resolve(variant.config(config, config.seed))) for variant in variants
    }
    self.rows: list[Row] = []
    self.images, self.done = 0, 0

  def add(self, found: Sequence[Result]) -> None:
    """Takes the results of whole rounds of all variants, in the order of the rounds."""
    self.done, self.images = len(found) // len(self.variants), found[0]['count']
    runs = {
      variant.name: [result for result in found if result['variant'] == variant.name] for variant in self.variants
    }
    percent = {name: [100 * result['accuracy'] for result in results] for name, results in runs.items()}
    self.rows = []
    for name, results in runs.items():
      mean, deviation = paired.moments(percent[name])
      seconds = sum(result['seconds'] for result in results)
      self.rows.append(
        Row(
          name=name,
          parameters=self._parameters[name],
          accuracies=[result['accuracy'] for result in results],
          losses=[result['loss'] for result in results],
          mean=mean,
          deviation=deviation,
          seconds=seconds / len(results),
          speed=sum(result['images'] for result in results) / seconds,
          differences={
            other: paired.difference(percent[name], percent[other]) for other in self.references if other != name
          },
        )
      )

  def finished(self) -> list[Cell]:
    """The cells that `add` was told of."""
    return self._cells[: self.done * len(self.variants)]

  def title(self) -> str:
    """What is compared."""
    varied = sorted({key for variant in self.variants for key in variant.overrides})
    what = 'gates' if varied == ['model.gate'] else ', '.join(varied)
    return f'{self.name}: comparison of {what}'

  def table(self) -> list[list[str]]:
    """The heading and a row a variant, as text."""
    heading = ['', 'test accuracy', *(f'accuracy minus {name}' for name in self.references)]
    rows = [[*heading, 'test error', 'parameters', 'training', 'images/s']]
    for row in self.rows:
      compared = [shown(row.differences.get(name)) for name in self.references]
      error = f'{100 - row.mean:.2f} ± {row.deviation:.2f} %'
      costs = [f'{row.parameters:,}', f'{row.seconds:.0f} s', f'{row.speed:,.0f}']
      rows.append([row.name, f'{row.mean:.2f} ± {row.deviation:.2f} %', *compared, error, *costs])
    return rows

  def notes(self) -> list[str]:
    """How to read the table."""
    weights = 'moving averages of the weights' if self.config.ema_decay else 'weights'
    first = self.config.seed
    many = sum(len(row.differences) for row in self.rows)
    notes = [
      f'{self.config.dataset}, {self.config.epochs:g} epochs, seeds {first} to {first + self.done - 1}: the {weights} '
      f'after the last step, on all {self.images:,} test images (one image: {100 / self.images:.2g} %).',
      'Mean ± standard deviation over the seeds. Differences are paired by seed, in percentage points, with the '
      f'{paired.CONFIDENCE:.0%} interval of Student\'s t; "{paired.NONE}": it covers 0.',
    ]
    if many > 1:
      notes.append(
        f'Each of the {many} intervals has its {paired.CONFIDENCE:.0%} for itself: the more there are, the more likely '
        'it is that one of them leaves out 0 by chance.'
      )
    notes.append(
      'Seeds change initial weights, batches and augmentation, not the images: nothing is said about other data. '
      'Times are of the training steps alone, on this machine.'
    )
    return notes


def shown(found: paired.Difference | None) -> str:
  """'+0.11 [-0.25, +0.47] no difference shown'"""
  if found is None:
    return '-'
  if math.isnan(found.low):
    return f'{found.mean:+.2f} {found.verdict}'
  return f'{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}] {found.verdict}'
