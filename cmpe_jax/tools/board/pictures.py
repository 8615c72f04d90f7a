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
  accuracy = curves.accuracy(each.identity['ema_decay'] > 0)
  found = {
    'test error, %': curves.collect(each.runs, accuracy, each.identity['epochs'], lambda values: 100 * (1 - values)),
    'training loss': curves.collect(each.runs, curves.LOSS, each.identity['epochs'], lambda values: values),
  }
  return {label: lines if any(lines.values()) else {} for label, lines in found.items()}
