"""What came out of a comparison: a row for each variant, and the words that one must know to read them."""

import pathlib
from collections.abc import Sequence

import ml_collections

from cmpe_jax.data import datasets
from cmpe_jax.tools.compare.cells import Cell, Variant
from cmpe_jax.tools.shared import paired, rows, sizes
from cmpe_jax.tools.shared.results import Result
from cmpe_jax.tools.shared.rows import Row


class Comparison:
  """Turns the results of cells into a table."""

  def __init__(
    self,
    name: str,
    config: ml_collections.ConfigDict,
    variants: Sequence[Variant],
    cells: Sequence[Cell],
  ):
    """`name`: of the configuration; `cells`: all, a seed of each variant by turns."""
    self.dataset = datasets.describe(config)
    self.name, self.config = name, self.dataset.resolve(config)
    self.variants, self.cells = list(variants), list(cells)
    self.references = rows.references(variant.name for variant in variants)
    self.seeds = len(cells) // len(variants)
    self.parameters = {
      variant.name: sizes.parameters(self.dataset.resolve(variant.config(config, config.seed))) for variant in variants
    }
    self.runs: dict[str, dict[int, Result]] = {variant.name: {} for variant in variants}
    self.rows: list[Row] = []

  def add(self, found: Sequence[Result]) -> None:
    """Takes the results of cells, whichever are there."""
    for result in found:
      self.runs[result['variant']][result['seed']] = result
    self.rows = rows.rows(self.runs, self.references, self.parameters)

  @property
  def results(self) -> list[Result]:
    """All that `add` was told of, in the order of the cells."""
    return [self.runs[cell.variant][cell.seed] for cell in self.cells if cell.seed in self.runs[cell.variant]]

  @property
  def missing(self) -> int:
    """Runs that are still to come."""
    return len(self.cells) - len(self.results)

  def title(self) -> str:
    """What is compared."""
    varied = sorted({key for variant in self.variants for key in variant.overrides})
    what = 'gates' if varied == ['model.gate'] else ', '.join(varied)
    return f'{self.name}: comparison of {what}'

  def table(self) -> list[list[str]]:
    """The heading and a row a variant, as text."""
    return rows.table(self.rows, self.references, self.seeds)

  def notes(self) -> list[str]:
    """How to read the table."""
    weights = 'moving averages of the weights' if self.config.ema_decay else 'weights'
    seeds, images = sorted({result['seed'] for result in self.results}), self.results[0]['count']
    many = sum(len(row.differences) for row in self.rows)
    notes = [
      f'{self._data()}, {self.config.epochs:g} epochs, seeds {seeds[0]} to {seeds[-1]}: the {weights} '
      f'after the last step, on all {images:,} test images (one image: {100 / images:.2g} %).',
      'Mean ± standard deviation over the seeds. Differences are paired by seed, in percentage points, with the '
      f'{paired.CONFIDENCE:.0%} interval of Student\'s t; "{paired.NONE}": it covers 0.',
    ]
    if self.missing:
      notes.append(
        f'{self.missing} of {len(self.cells)} runs are missing. "{rows.OPEN}" is what they will tell; '
        'a difference is of the seeds that both have, two at least.'
      )
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

  def _data(self) -> str:
    """The dataset's name; a folder's without its place on this machine, because the notes travel."""
    kind, _, path = self.config.dataset.partition(':')
    return f'{kind} {pathlib.Path(path).name!r}' if path else kind
