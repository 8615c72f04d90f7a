"""The files of a comparison: the report, and its numbers as JSON and CSV."""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from cmpe_jax.config import plain
from cmpe_jax.runtime import files
from cmpe_jax.runtime.printing import aligned
from cmpe_jax.tools.compare import paired, report
from cmpe_jax.tools.compare.comparison import Comparison, Result

FILES = ('report.html', 'results.json', 'results.csv', 'table.csv')


def write(comparison: Comparison, found: Sequence[Result], workdir: pathlib.Path) -> None:
  """Writes all `FILES` about the results so far. Raises `UserError` if it cannot."""
  comparison.add(found)
  texts = (report.page(comparison), as_json(comparison), runs_csv(found), table_csv(comparison))
  for file, text in zip(FILES, texts, strict=True):
    files.write(workdir / file, text, 'workdir')


def text(comparison: Comparison, workdir: pathlib.Path) -> str:
  """The table for a console, with what one must know to read it and where the files are."""
  table = aligned(comparison.table(), left=None)
  return '\n'.join([table, '', *comparison.notes(), '', f'report  {workdir / FILES[0]}'])


def as_json(comparison: Comparison) -> str:
  """Everything: the recipe, each run, each row of the table. Intervals that do not exist are null."""
  content = {
    'config': comparison.name,
    'recipe': plain(comparison.config),
    'variants': {variant.name: variant.overrides for variant in comparison.variants},
    'references': comparison.references,
    'seeds': [comparison.config.seed + i for i in range(comparison.done)],
    'test_images': comparison.images,
    'confidence': paired.CONFIDENCE,
    'rows': [dataclasses.asdict(row) for row in comparison.rows],
    'notes': comparison.notes(),
  }
  return json.dumps(_finite(content), indent=2) + '\n'


def table_csv(comparison: Comparison) -> str:
  """The table as numbers: percent, percentage points, seconds."""
  heading = ['variant', 'parameters', 'runs', 'accuracy_mean', 'accuracy_deviation', 'error_mean']
  for name in comparison.references:
    heading += [f'minus_{name}', f'minus_{name}_low', f'minus_{name}_high', f'minus_{name}_verdict']
  lines = [[*heading, 'seconds', 'images_per_second']]
  for row in comparison.rows:
    line: list[Any] = [row.name, row.parameters, len(row.accuracies)]
    line += [f'{value:.6g}' for value in (row.mean, row.deviation, 100 - row.mean)]
    for name in comparison.references:
      found = row.differences.get(name)
      line += [_number(found.mean), _number(found.low), _number(found.high), found.verdict] if found else [''] * 4
    lines.append([*line, f'{row.seconds:.1f}', f'{row.speed:.1f}'])
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


def _finite(content: Any) -> Any:
  """JSON has no nan."""
  if isinstance(content, dict):
    return {key: _finite(value) for key, value in content.items()}
  if isinstance(content, list):
    return [_finite(value) for value in content]
  return None if isinstance(content, float) and math.isnan(content) else content
