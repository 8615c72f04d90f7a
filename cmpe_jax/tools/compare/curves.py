"""The learning curves of a run as its result keeps them, so that they outlive its workdir."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cmpe_jax.tools.shared.rows import Runs

POINTS = 60  # of a curve, at most
LOSS = 'train/loss'
Lines = list[tuple[np.ndarray, np.ndarray]]
Curves = dict[str, Lines]


def accuracy(averaged: bool) -> str:
  """The name in metrics.jsonl of the accuracy that counts."""
  return 'eval_ema/accuracy' if averaged else 'eval/accuracy'


def thinned(lines: Sequence[dict[str, Any]], averaged: bool) -> dict[str, list[list[float]]]:
  """{name: [steps, values]} from metrics.jsonl, of the training loss and of the accuracy that counts.

  Where there are more than `POINTS`, neighbours are averaged. Five digits are kept.
  """
  found = {}
  for name in (accuracy(averaged), LOSS):
    points = [(line['step'], line[name]) for line in lines if name in line]
    if points:
      columns = np.array(points, np.float64).T
      groups = [np.array_split(column, min(len(column), POINTS)) for column in columns]
      found[name] = [[float(f'{part.mean():.5g}') for part in column] for column in groups]
  return found


def collect(
  runs: Runs,
  names: Mapping[str, str],
  lengths: Mapping[str, tuple[float, int]],
  change: Callable[[np.ndarray], np.ndarray],
) -> Curves:
  """Curves by variant: [(epochs, values), ...]; a run without one is left out.

  Args:
    runs: by variant and seed.
    names: of the curve, by variant.
    lengths: the epochs of a run and its batch size, by variant.
    change: what is drawn instead of the values.
  """
  found: Curves = {variant: [] for variant in runs}
  for variant, results in runs.items():
    name, (epochs, batch_size) = names[variant], lengths[variant]
    for _, result in sorted(results.items()):
      if name in result.get('curves', {}):
        steps, values = np.array(result['curves'][name])
        last = max(result['images'] / batch_size, steps[-1])  # where neighbours were averaged, that is no step's number
        found[variant].append((steps * epochs / last, change(values)))
  return found


def panels(runs: Runs, values: Callable[[str], Mapping[str, Any]]) -> dict[str, Curves]:
  """The error on the evaluated split and the training loss, by label; {} for one without any line.

  Args:
    runs: by variant and seed.
    values: gives those of a key of the configuration, by variant.
  """
  epochs, batch_sizes, decays, held = (values(key) for key in ('epochs', 'batch_size', 'ema_decay', 'validation'))
  lengths = {name: (epochs[name], batch_sizes[name]) for name in runs}
  errors = {name: accuracy(decays[name] > 0) for name in runs}
  split = 'validation' if all(held.values()) else 'validation or test' if any(held.values()) else 'test'
  found = {
    f'{split} error, %': collect(runs, errors, lengths, lambda x: 100 * (1 - x)),
    'training loss': collect(runs, dict.fromkeys(runs, LOSS), lengths, lambda x: x),
  }
  return {label: lines if any(lines.values()) else {} for label, lines in found.items()}
