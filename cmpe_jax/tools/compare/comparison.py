"""What came out of a comparison: the table, as text, CSV and JSON, and the report."""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections

from cmpe_jax import config as configs
from cmpe_jax.data import datasets
from cmpe_jax.tools import cells as cell_files
from cmpe_jax.tools import paired, sizes
from cmpe_jax.tools.cells import Cell, Variant
from cmpe_jax.tools.tables import aligned

Result = dict[str, Any]
FILES = ('report.html', 'results.json', 'results.csv', 'table.csv')


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
  """Turns the results of cells into tables and files."""

  def __init__(
    self,
    name: str,
    config: ml_collections.ConfigDict,
    variants: Sequence[Variant],
    references: Sequence[str],
    cells: Sequence[Cell],
    workdir: pathlib.Path,
  ):
    """`name`: of the configuration; `references`: names of variants; `cells`: all, a seed of each variant by turns."""
    self.name, self.config, self.workdir = name, datasets.resolve(config), workdir
    self.variants, self.references, self._cells = list(variants), list(references), list(cells)
    self.seeds = len(cells) // len(variants)
    self._parameters = {
      variant.name: sizes.parameters(datasets.resolve(variant.config(config, config.seed))) for variant in variants
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

  def write(self, found: Sequence[Result]) -> None:
    """Writes all `FILES` into the workdir. Raises `UserError` if it cannot."""
    from cmpe_jax.tools import report  # late: Matplotlib

    self.add(found)
    writers = (lambda: report.page(self), self.as_json, lambda: runs_csv(found), self.table_csv)
    for file, writer in zip(FILES, writers, strict=True):
      cell_files.write(self.workdir / file, writer())

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

  def text(self) -> str:
    """The table for a console, with what one must know to read it and where the files are."""
    return '\n'.join([aligned(self.table(), left=None), '', *self.notes(), '', f'report  {self.workdir / FILES[0]}'])

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

  def as_json(self) -> str:
    """Everything: the recipe, each run, each row of the table. Intervals that do not exist are null."""
    content = {
      'config': self.name,
      'recipe': configs.plain(self.config),
      'variants': {variant.name: variant.overrides for variant in self.variants},
      'references': self.references,
      'seeds': [self.config.seed + i for i in range(self.done)],
      'test_images': self.images,
      'confidence': paired.CONFIDENCE,
      'rows': [dataclasses.asdict(row) for row in self.rows],
      'notes': self.notes(),
    }
    return json.dumps(_finite(content), indent=2) + '\n'

  def table_csv(self) -> str:
    """The table as numbers: percent, percentage points, seconds."""
    heading = ['variant', 'parameters', 'runs', 'accuracy_mean', 'accuracy_deviation', 'error_mean']
    for name in self.references:
      heading += [f'minus_{name}', f'minus_{name}_low', f'minus_{name}_high', f'minus_{name}_verdict']
    lines = [[*heading, 'seconds', 'images_per_second']]
    for row in self.rows:
      line: list[Any] = [row.name, row.parameters, len(row.accuracies)]
      line += [f'{value:.6g}' for value in (row.mean, row.deviation, 100 - row.mean)]
      for name in self.references:
        found = row.differences.get(name)
        line += [_number(found.mean), _number(found.low), _number(found.high), found.verdict] if found else [''] * 4
      lines.append([*line, f'{row.seconds:.1f}', f'{row.speed:.1f}'])
    return _csv(lines)


def shown(found: paired.Difference | None) -> str:
  """'+0.11 [-0.25, +0.47] no difference shown'"""
  if found is None:
    return '-'
  if math.isnan(found.low):
    return f'{found.mean:+.2f} {found.verdict}'
  return f'{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}] {found.verdict}'


def runs_csv(found: Sequence[Result]) -> str:
  """A line a run: variant, seed, test accuracy and loss, images, seconds."""
  lines: list[list[Any]] = [['variant', 'seed', 'test_accuracy', 'test_loss', 'test_images', 'training_seconds']]
  for result in found:
    values = [f'{result[name]:.6g}' for name in ('accuracy', 'loss')]
    lines.append([result['variant'], result['seed'], *values, result['count'], f'{result["seconds"]:.1f}'])
  return _csv(lines)


def _number(value: float) -> str:
  return '' if math.isnan(value) else f'{value:.6g}'


def _csv(lines: Sequence[Sequence[Any]]) -> str:
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerows(lines)
  return text.getvalue()


def _finite(content: Any) -> Any:
  """JSON has no nan."""
  if isinstance(content, dict):
    return {key: _finite(value) for key, value in content.items()}
  if isinstance(content, list):
    return [_finite(value) for value in content]
  return None if isinstance(content, float) and math.isnan(content) else content
