"""One exact pass over a split: every example once, whatever the batch size and the number of devices."""

import time
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from cmpe_jax import config as configs
from cmpe_jax import mesh as meshes
from cmpe_jax import metrics, models, processes, step
from cmpe_jax.checkpoint import Checkpoints, check_config
from cmpe_jax.data import datasets, pipeline


class Evaluator:
  """Evaluates variables on one split of `config.dataset`; compiles once."""

  def __init__(self, config: ml_collections.ConfigDict, model, info: datasets.Dataset, split: str, mesh: Mesh):
    """Opens the split. Raises `UserError` if the data are missing."""
    self.split = split
    self._source = pipeline.open_split(config, info, split, mesh)
    self._batch_size = meshes.eval_batch(mesh, config.eval_batch_size or config.batch_size, self._source.num_examples)
    self._call = step.compile_eval(step.make_eval(config, model, info), self._source, mesh)

  def __call__(self, variables: dict[str, Any]) -> dict[str, float]:
    """{'loss', 'accuracy', 'top5', 'count'} over the whole split.

    'top5' counts labels among the five largest logits (all of them where there are fewer classes).

    Raises:
      RuntimeError: not every example was counted once, which is a fault of the input pipeline.
    """
    total, late = metrics.Means(), metrics.Late()
    for drawn in self._source.evaluate(self._batch_size):
      for _, sums in late.put(None, self._call(variables, self._source.resident, drawn)):
        total.add(sums)
    for _, sums in late.rest():
      total.add(sums)
    if total.count != self._source.num_examples:
      raise RuntimeError(f'{total.count} examples were evaluated, but {self.split} has {self._source.num_examples}.')
    return total.means() | {'count': total.count}


def run(config: ml_collections.ConfigDict, workdir: str, which: str) -> dict[str, float]:
  """Evaluates the `which` ('best' or 'newest') checkpoint of `workdir` on the test split and prints a table.

  Returns:
    {'eval/accuracy': ..., ...}, and 'eval_ema/...' for the moving averages if the run kept them.

  Raises:
    UserError: no such checkpoint, a checkpoint of another model, missing data.
  """
  began = time.perf_counter()
  checkpoints = processes.together('workdir', lambda: Checkpoints(workdir))
  try:
    chosen = processes.together('checkpoint', lambda: checkpoints.choose(which))
    saved = checkpoints.config(chosen)
    mesh = meshes.make()
    evaluator = processes.together('configuration and data', lambda: _open(config, saved, chosen, mesh))
    processes.check_same({'checkpoint': chosen})
    values: dict[str, float] = {}
    for name, averaged in (('eval', False), ('eval_ema', True)):
      if not averaged or saved.ema_decay:
        variables = meshes.replicate(jax.device_get(checkpoints.variables(chosen, averaged)), mesh)
        values |= {f'{name}/{key}': value for key, value in evaluator(variables).items()}
    processes.barrier('end')
  finally:
    checkpoints.close()
  metrics.say(metrics.table({
    'checkpoint': str(checkpoints.directory / str(chosen)),
    **describe(values),
    'time': f'{time.perf_counter() - began:.1f} s',
  }))  # fmt: skip
  return values


def _open(config: ml_collections.ConfigDict, saved: ml_collections.ConfigDict, chosen: int, mesh: Mesh) -> Evaluator:
  configs.check(config)
  config = datasets.resolve(config)
  check_config(config, saved, chosen, model_only=True)
  return Evaluator(config, models.build(config.model, config.dtype), datasets.describe(config), 'test', mesh)


def describe(values: dict[str, float]) -> dict[str, str]:
  """Results as rows of a table: {'eval/accuracy': 0.9861} gives {'test accuracy': '98.61%'}."""
  rows = {}
  for name, value in values.items():
    group, _, what = name.partition('/')
    percent = what in ('accuracy', 'top5')
    text = f'{value:.2%}' if percent else f'{value:,}' if what == 'count' else f'{value:.4f}'
    label = {'top5': 'top-5 accuracy', 'count': 'images'}.get(what, what)
    rows[f'test {label}' + (' (moving averages)' if group == 'eval_ema' else '')] = text
  return rows
