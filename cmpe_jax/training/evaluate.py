"""One exact pass over a split: every example once, whatever the batch size and the number of devices."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from cmpe_jax import config as configuration
from cmpe_jax.data import classes, datasets, marks
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.runtime import processes, start
from cmpe_jax.runtime.signals import Stop
from cmpe_jax.training import chosen, rerun
from cmpe_jax.training.account import COMPILATION, EVALUATION, Account
from cmpe_jax.training.checkpoint import Checkpoints, Notes
from cmpe_jax.training.console import Console
from cmpe_jax.training.metrics import Late, Means
from cmpe_jax.training.run import Run, assemble


class Evaluator:
  """Evaluates variables on one split of a run's dataset; compiles once. Close it."""

  def __init__(self, run: Run, split: str, stop: Stop | None = None, account: Account | None = None):
    """Opens the split; `stop` is asked after each batch, `account` is of the run's time.

    Raises:
      UserError: the data are missing.
    """
    self.split = split
    self._stop, self._account = stop or Stop(), account or Account()
    self._compiled: Callable[..., Any] | None = None
    self.compiled_in = 0.0  # seconds
    self._source = run.open(split)
    self._batch_size = run.eval_batch(self._source.num_examples)
    self._call = run.eval_call(self._source.materialize)

  def __call__(self, variables: dict[str, Any]) -> dict[str, float]:
    """{'loss', 'accuracy', 'top5', 'count'} over the whole split.

    'top5' counts labels among the five largest logits (all of them where there are fewer classes).

    Raises:
      RuntimeError: not every example was counted once, which is a fault of the input pipeline.
      Told: a signal came; there are no figures.
    """
    total, late = Means(), Late()
    with self._account.phase(EVALUATION), contextlib.closing(self._source.evaluate(self._batch_size)) as batches:
      for drawn in batches:
        given = (variables, self._source.resident, drawn)
        if self._compiled is None:
          began = time.perf_counter()
          with self._account.phase(COMPILATION):
            self._compiled = self._stop.unless_told(functools.partial(self._compile, *given))
          self.compiled_in = time.perf_counter() - began
        for _, sums in late.put(None, self._compiled(*given)):
          total.add(sums)
        self._stop.check()
      for _, sums in late.rest():
        total.add(sums)
    if total.count != self._source.num_examples:
      raise RuntimeError(f'{total.count} examples were evaluated, but {self.split} has {self._source.num_examples}.')
    return total.means() | {'count': total.count}

  def _compile(self, *given: Any) -> Callable[..., Any]:
    return self._call.lower(*given).compile()

  def close(self) -> None:
    """Closes the split."""
    self._source.close()


def evaluate(
  config: ml_collections.ConfigDict, workdir: str, which: str = 'best', console: Console | None = None
) -> dict[str, float]:
  """Evaluates the `which` ('best' or 'newest') checkpoint of `workdir` on the test split and prints a table.

  Args:
    config: of the run; its model has to be the checkpoint's.
    workdir: where the run wrote.
    which: the checkpoint.
    console: where the table goes; default: stdout.

  Returns:
    Figures such as 'eval/accuracy', and 'eval_ema/...' for the moving averages if the run kept them.

  Raises:
    UserError: no such checkpoint, a checkpoint of another model or of another test part of its folder, missing data.
  """
  began, console = time.perf_counter(), console or Console()
  start.types(config.dtype)
  read = chosen.read_together(workdir, which, _read)
  saved = read.config
  with contextlib.ExitStack() as opened:

    def open_test() -> tuple[Run, Evaluator]:
      begun = configuration.as_begun(config, saved)
      if not begun.pixel_mean and datasets.normalization(begun) != datasets.normalization(saved):
        begun = datasets.normalized_as(begun, saved)
        console.say('normalized as in training: mean {}, deviation {}.'.format(*datasets.normalization(saved)))
      run = assemble(begun)
      if datasets.are_folders(run.config, saved):
        classes.check(read.notes.get('classes', ()), run.dataset.class_names, run.config.dataset)
      configuration.check_resumed(run.config, saved, read.step, model_only=True)
      if read.step:  # at step 0 nothing has been trained on
        configuration.check_tested(*(datasets.normalized_as(each, each) for each in (run.config, saved)))
        if changed := _changed(run, saved, read.notes.get('files', {})):
          console.say(changed)
      return run, Evaluator(run, 'test')

    run, evaluator = processes.together('configuration and data', open_test)
    opened.enter_context(contextlib.closing(evaluator))
    values: dict[str, float] = {}
    for name, variables in read.variables.items():
      figures = evaluator(meshes.replicate(variables, run.mesh))
      values |= {f'{name}/{key}': value for key, value in figures.items()}
    processes.barrier('end')
  console.tested(values, time.perf_counter() - began, read.place)
  return values


@dataclasses.dataclass(frozen=True)
class _Read:
  """What an evaluation needs of a checkpoint; `variables`: by the name of their figures, on the host."""

  config: ml_collections.ConfigDict
  notes: Notes
  variables: dict[str, dict[str, Any]]
  step: int
  place: str


def _read(checkpoints: Checkpoints, step: int) -> _Read:
  saved, notes = checkpoints.config(step), checkpoints.notes(step)
  ways = {'eval': False} | ({'eval_ema': True} if saved.ema_decay else {})
  variables = {name: jax.device_get(checkpoints.variables(step, averaged)) for name, averaged in ways.items()}
  return _Read(saved, notes, variables, step, str(checkpoints.directory / str(step)))


def _changed(run: Run, saved: ml_collections.ConfigDict, then: marks.Marks) -> str:
  """What of a folder is not as it was in training. Another folder is another test set, and nothing is said of it."""
  names = [rerun.dataset_name(config.dataset) for config in (run.config, saved)]
  return marks.changes(then, run.marks, run.config.dataset, trains=False) if names[0] == names[1] else ''
