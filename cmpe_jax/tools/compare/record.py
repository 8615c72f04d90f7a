"""The file of a comparison's finished runs, which is also what one contributes to docs/results/."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import files
from cmpe_jax.tools.compare.comparison import Comparison
from cmpe_jax.tools.shared import paired, results, rows
from cmpe_jax.tools.shared.results import Content, Result

FILE = 'results.json'


class Record:
  """Reads what is finished, so that it is not run again, and takes each further run at once.

  Runs in the file that the comparison does not ask for, of other variants and seeds, stay there.
  """

  def __init__(self, path: pathlib.Path, comparison: Comparison):
    """Raises `UserError`: the file is damaged, or of another recipe; the message lists the keys."""
    self.path, self._comparison = path, comparison
    self._recipe, self._varied = comparison.recipe, comparison.varied
    self._overrides = {variant.name: json.loads(json.dumps(variant.overrides)) for variant in comparison.variants}
    self.find(comparison.variants[0].name, 0)

  def find(self, variant: str, seed: int) -> Result | None:
    """A finished run. Raises `UserError` as `__init__`."""
    runs = self._read().get('runs', [])
    return next((run for run in runs if (run['variant'], run['seed']) == (variant, seed)), None)

  def _read(self) -> Content:
    """The contents, or {} if there are none, or they are of version 1.0, which wrote no runs."""
    if not self.path.exists() or _is_old(self.path):
      return {}
    content = results.load(self.path)
    lines = [
      f'  {name}: {content["variants"][name]} there, {changes} now'
      for name, changes in self._overrides.items()
      if content['variants'].get(name, changes) != changes
    ]
    if content['varied'] != self._varied:
      lines.append(f'  compared: {content["varied"]} there, {self._varied} now')
    else:
      kept, ours = (results.identity(recipe, self._varied) for recipe in (content['recipe'], self._recipe))
      lines += results.differences(kept, ours)
    if lines:
      raise UserError(
        f'{self.path} holds runs of another recipe:\n' + '\n'.join(lines) + '\nSet these back, or give other --results.'
      )
    return content

  def add(self, found: Sequence[Result]) -> None:
    """Writes the file with these runs too. Raises `UserError` as `__init__`, or if it cannot be written."""
    with files.chosen(self.path, 'results'), files.alone(self.path):
      before = self._read()  # again: another process may have added to it
      runs: dict[str, dict[int, Result]] = {name: {} for name in before.get('variants', {}) | self._overrides}
      for run in [*found, *before.get('runs', [])]:  # what is there stays
        runs[run['variant']][run['seed']] = run
      files.replace(self.path, results.text(self._content(before, runs)))

  def _content(self, before: Content, runs: dict[str, dict[int, Result]]) -> dict[str, Any]:
    comparison, every = self._comparison, [runs[name][seed] for name in runs for seed in sorted(runs[name])]
    parameters = {row['name']: row['parameters'] for row in before.get('rows', [])} | comparison.parameters
    variants = before.get('variants', {}) | self._overrides
    references = rows.references(variants)
    planned = {comparison.config.seed + i for i in range(comparison.seeds)}
    return {
      'format': results.FORMAT,
      'config': comparison.name,
      'recipe': self._recipe,
      'varied': self._varied,
      'variants': variants,
      'references': references,
      'seeds': sorted(planned | {run['seed'] for run in every} | set(before.get('seeds', []))),
      'test_images': every[0]['count'],
      'confidence': paired.CONFIDENCE,
      'runs': every,
      'rows': [_as_dict(row) for row in rows.rows(runs, references, parameters)],
      'notes': comparison.notes(),
    }


def _as_dict(row: rows.Row) -> dict[str, Any]:
  values = dict(vars(row))
  return values | {'differences': {name: vars(found) for name, found in row.differences.items()}}


def _is_old(path: pathlib.Path) -> bool:
  """Whether version 1.0 wrote it, which knew no formats; it stays in a workdir until the next run."""
  try:
    content = json.loads(path.read_text())
  except (OSError, ValueError):
    return False
  return isinstance(content, dict) and 'format' not in content and 'rows' in content
