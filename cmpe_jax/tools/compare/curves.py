"""The learning curves of a run as its result keeps them, so that they outlive its workdir."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cmpe_jax.tools.shared.rows import Runs

POINTS = 60  # of a curve, at most
LOSS = 'train/loss'
Curves = dict[str, list[tuple[np.ndarray, np.ndarray]]]


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


def collect(runs: Runs, name: str, epochs: float, change: Callable[[np.ndarray], np.ndarray]) -> Curves:
  """The curves of that name, changed, by variant: [(epochs, values), ...]; a run without one is left out."""
  found: Curves = {variant: [] for variant in runs}
  for variant, results in runs.items():
    for _, result in sorted(results.items()):
      if name in result.get('curves', {}):
        steps, values = np.array(result['curves'][name])
        found[variant].append((steps * epochs / steps[-1], change(values)))
  return found
