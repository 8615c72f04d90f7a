"""The learning curves of a recipe, beside its table."""

import functools

from cmpe_jax.tools.board.gathered import Gathered
from cmpe_jax.tools.compare import charts, curves


def name(each: Gathered) -> str:
  """Of the file, beside the first file of results; '' if no run of the recipe has kept its curves."""
  return f'{each.files[0].stem}.svg' if any(_panels(each).values()) else ''


def svg(each: Gathered) -> str:
  """Test error and training loss over the epochs: thin lines are runs, thick ones their means."""
  panels = {label: found for label, found in _panels(each).items() if found}
  return charts.file(functools.partial(charts.learning, panels), each.config)


def _panels(each: Gathered) -> dict[str, curves.Curves]:
  """By label; {} for one without any line."""
  return curves.panels(each.runs, each.values)
