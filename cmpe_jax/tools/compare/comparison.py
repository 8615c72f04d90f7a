"""What came out of a comparison: a row for each variant, and the words that one must know to read them."""

import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections

from cmpe_jax.config import flatten
from cmpe_jax.data import datasets
from cmpe_jax.tools.compare.cells import Cell, Variant
from cmpe_jax.tools.shared import paired, results, rows, sizes
from cmpe_jax.tools.shared import variants as of_variants
from cmpe_jax.tools.shared.results import Content, Result
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
    self.recipe = results.recipe(self.config, self.dataset)
    self.variants, self.cells = list(variants), list(cells)
    self.references = rows.references(variant.name for variant in variants)
    self.seeds = len(cells) // len(variants)
    self.parameters: dict[str, int] = {}
    self.recipes: dict[str, Content] = {}
    for variant in variants:
      own = variant.config(config, config.seed)
      is_of_model = all(key.startswith('model.') for key in variant.overrides)
      dataset = self.dataset if is_of_model else datasets.describe(own)
      resolved = dataset.resolve(own)
      self.parameters[variant.name] = sizes.parameters(resolved)
      self.recipes[variant.name] = results.recipe(resolved, dataset, self.recipe['dataset'] if is_of_model else '')
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

  @property
  def varied(self) -> list[str]:
    """The keys that the variants change."""
    return sorted({key for variant in self.variants for key in variant.overrides})

  def values(self, key: str) -> dict[str, Any]:
    """The value of a key of the configuration in each variant, by name."""
    return of_variants.values(flatten(self.config), {each.name: each.overrides for each in self.variants}, key)

  def title(self) -> str:
    """What is compared."""
    what = 'gates' if self.varied == ['model.gate'] else ', '.join(self.varied)
    return f'{self.name}: comparison of {what}'

  def table(self) -> list[list[str]]:
    """The heading and a row a variant, as text."""
    return rows.table(self.rows, self.references, self.seeds)

  def notes(self) -> list[str]:
    """How to read the table."""
    many = sum(len(row.differences) for row in self.rows)
    notes = [
      self._measured(),
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

  def _measured(self) -> str:
    """What was run, as far as it is the same for all, and tested."""
    seeds, counts = sorted({result['seed'] for result in self.results}), {run['count'] for run in self.results}
    shared = [self._data(), of_variants.epochs(self.values('epochs').values()), f'seeds {seeds[0]} to {seeds[-1]}']
    weights = of_variants.weights(self.values('ema_decay').values())
    one = f' (one image: {100 / min(counts):.2g} %)' if len(counts) == 1 else ''
    return (
      f'{", ".join(filter(None, shared))}: the {weights} after the last step, on {of_variants.images(counts)}{one}.'
    )

  def _data(self) -> str:
    """The dataset's name; a folder's without its place on this machine, because the notes travel."""
    if 'dataset' in self.varied:
      return ''
    kind, _, path = self.config.dataset.partition(':')
    return f'{kind} {pathlib.Path(path).name!r}' if path else kind
