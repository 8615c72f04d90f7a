"""The files of a comparison that people read: the report, and its numbers as CSV."""

import csv
import io
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from cmpe_jax.runtime import files
from cmpe_jax.runtime.printing import aligned
from cmpe_jax.tools.compare import report
from cmpe_jax.tools.compare.comparison import Comparison
from cmpe_jax.tools.shared.results import Result

FILES = ('report.html', 'results.csv', 'table.csv')


def write(comparison: Comparison, workdir: pathlib.Path) -> None:
  """Writes all `FILES` about the results so far. Raises `UserError` if it cannot."""
  texts = (report.page(comparison), runs_csv(comparison.results), table_csv(comparison))
  for file, text in zip(FILES, texts, strict=True):
    files.write(workdir / file, text, 'workdir')


def text(comparison: Comparison, workdir: pathlib.Path) -> str:
  """The table for a console, with what one must know to read it and where the files are."""
  table = aligned(comparison.table(), left=None)
  return '\n'.join([table, '', *comparison.notes(), '', f'report  {workdir / FILES[0]}'])


def table_csv(comparison: Comparison) -> str:
  """The table as numbers: percent, percentage points, seconds."""
  heading = ['variant', 'parameters', 'runs', 'accuracy_mean', 'accuracy_deviation', 'error_mean']
  for name in comparison.references:
    heading += [f'minus_{name}', f'minus_{name}_low', f'minus_{name}_high', f'minus_{name}_verdict']
  lines = [[*heading, 'seconds', 'images_per_second']]
  for row in comparison.rows:
    line: list[Any] = [row.name, row.parameters, len(row.seeds)]
    line += [_number(value) for value in (row.mean, row.deviation, 100 - row.mean)]
    for name in comparison.references:
      found = row.differences.get(name)
      line += [_number(found.mean), _number(found.low), _number(found.high), found.verdict] if found else [''] * 4
    lines.append([*line, *(f'{value:.1f}' if row.seeds else '' for value in (row.seconds, row.speed))])
  return _csv(lines)


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
