"""A training run from its configuration to its table of results: what is opened, in which order, and closed again."""

import contextlib
import time
from typing import Any

import jax
import ml_collections

from cmpe_jax import config as configuration
from cmpe_jax.data import statistics
from cmpe_jax.data.source import Source
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import lock, processes
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.runtime.profiler import Profiler
from cmpe_jax.runtime.signals import Stop
from cmpe_jax.runtime.start import seconds_before, types
from cmpe_jax.training import run as runs
from cmpe_jax.training import starts
from cmpe_jax.training.account import CHECKPOINTS, EVALUATION, Account
from cmpe_jax.training.checkpoint import Checkpoints
from cmpe_jax.training.console import Console
from cmpe_jax.training.evaluate import Evaluator
from cmpe_jax.training.loop import Trainer
from cmpe_jax.training.resume import first_state
from cmpe_jax.training.run import Run
from cmpe_jax.training.saved import Damaged
from cmpe_jax.training.writer import Writer

ACCOUNTED = ('eval_every_steps', 'checkpoint_every_steps', 'input_processes', 'stored_side', 'dataset')


def train(
  config: ml_collections.ConfigDict,
  workdir: str,
  profile: tuple[int, int] | None = None,
  console: Console | None = None,
) -> dict[str, float]:
  """Trains `config` in `workdir`, from its newest checkpoint if it has one, and prints a table of the results.

  Args:
    config: all keys, such as `cmpe_jax.config.load('digits')`.
    workdir: where everything is written.
    profile: first and last step to trace into `workdir`/profile.
    console: where the lines go, and who follows the steps; default: stdout.

  Returns:
    The figures on the test split, such as 'eval/accuracy'; with a validation part those of the best checkpoint,
    'test/...'.

  Raises:
    UserError: a wrong input, or a loss that is not finite.
    Interrupted: SIGTERM or SIGINT; the state is saved, the same call goes on.
  """
  types(config.dtype)
  began, console, account = time.perf_counter(), console or Console(), Account(seconds_before())
  with Stop() as stop, contextlib.ExitStack() as opened:
    data = opened.enter_context(contextlib.ExitStack())
    run, source, evaluator = processes.together('configuration and data', lambda: _open(config, data, stop, account))
    processes.together('workdir', lambda: _hold(workdir, opened))
    opened.enter_context(starts.keep(account, workdir, is_first=jax.process_index() == 0))
    checkpoints = Checkpoints(workdir, config.keep_checkpoints, scored=config.validation > 0)
    opened.callback(checkpoints.close)
    begun = _measured(_as_begun(config, checkpoints), run, source, console)
    if begun is not config:
      data.close()
      run, source, evaluator = processes.together('configuration and data', lambda: _open(begun, data, stop, account))
    _agree(run, source, workdir)
    state, start = first_state(run, checkpoints, console)
    writer = opened.enter_context(contextlib.closing(Writer(workdir, start)))
    total = run.schedule.total
    _check_total(total, profile, checkpoints)
    if start >= total:
      console.say(f'nothing left to do: step {start} of {total} is done (raise epochs to train on).')
    profiler = opened.enter_context(Profiler(workdir, profile if start < total else None))
    notes = checkpoints.notes(start) if start else {}
    trainer = Trainer(run, source, evaluator, checkpoints, writer, console, profiler, stop, start, notes, account)
    account.begins(start, _facts(run))
    trainer.catch_up(state)
    account.saved(start)
    if start < total:
      trainer.train(state)
    with account.phase(CHECKPOINTS):
      checkpoints.wait()
      writer.wait()  # from here on a signal ends the process at once
    stop.unsaved = False
    with account.phase(EVALUATION):
      values = _results(run, evaluator, checkpoints, writer, max(start, total), stop)
    chosen = checkpoints.choose('best')
    processes.barrier('end')
  console.trained(values, time.perf_counter() - began, str(checkpoints.directory / str(chosen)), workdir)
  return values


def _check_total(total: int, profile: tuple[int, int] | None, checkpoints: Checkpoints) -> None:
  """Raises `UserError` if there is nothing to train, or to profile."""
  if not total and not checkpoints.steps():
    raise UserError(f'epochs gives {total} steps, and there is no checkpoint to evaluate: raise it.')
  if profile and profile[0] > total > 0:
    raise UserError(f'profile={profile[0]}:{profile[1]} is after the last step, {total}: give earlier steps.')


def _open(
  config: ml_collections.ConfigDict, opened: contextlib.ExitStack, stop: Stop, account: Account
) -> tuple[Run, Source, Evaluator]:
  """The run and its data, before anything is compiled or written, so that wrong inputs show at once."""
  run = runs.assemble(config)
  source = opened.enter_context(contextlib.closing(run.open('train')))
  run = runs.of_size(run, source.num_examples)
  split = 'validation' if config.validation else 'test'
  evaluator = opened.enter_context(contextlib.closing(Evaluator(run, split, stop, account)))
  return run, source, evaluator


def _facts(run: Run) -> dict[str, Any]:
  """What the account of a start says of its run."""
  flat = configuration.plain(run.config)
  return {name: flat[name] for name in ACCOUNTED} | {'total': run.schedule.total, 'processes': jax.process_count()}


def _hold(workdir: str, opened: contextlib.ExitStack) -> None:
  """The first process keeps other runs out of the workdir."""
  if jax.process_index() == 0:
    opened.enter_context(lock.hold(workdir))


def _as_begun(config: ml_collections.ConfigDict, checkpoints: Checkpoints) -> ml_collections.ConfigDict:
  """With what an older version, which began the run, did by default; `config` itself where that is no other."""
  for step in reversed(checkpoints.steps()):
    with contextlib.suppress(Damaged):  # `first_state` puts it aside, and goes on from the one before
      return configuration.as_begun(config, checkpoints.config(step))
  return config


def _measured(
  config: ml_collections.ConfigDict, run: Run, source: Source, console: Console
) -> ml_collections.ConfigDict:
  """With the mean and deviation of the training part where it shall be its own, and is not known from a checkpoint."""
  if config.pixel_statistics != 'own' or config.pixel_mean:
    return config
  measured = config.copy_and_resolve_references()
  batch_size = run.eval_batch(source.num_examples)
  measured.pixel_mean, measured.pixel_std = statistics.measure(source, batch_size, console.say)
  for name in ('pixel_mean', 'pixel_std'):
    console.say(f'{name} of the training images: ' + ', '.join(f'{value:.4f}' for value in measured[name]))
  return measured


def _agree(run: Run, source: Source, workdir: str) -> None:
  """Several processes check that they see the same configuration, workdir and data."""
  if jax.process_count() > 1:
    seen = {'workdir': processes.workdir_mark(workdir), 'training split': runs.data_mark(source)}
    seen['classes'] = runs.classes_mark(run)
    processes.check_same(run.facts() | seen)


def _results(
  run: Run, evaluator: Evaluator, checkpoints: Checkpoints, writer: Writer, done: int, stop: Stop
) -> dict[str, float]:
  """The figures on the test split of the run that ended with step `done`, from metrics.jsonl where they are written.

  Without a validation part they are the last evaluation's; else the best checkpoint's, under test/....
  """
  validated, averaged = run.config.validation > 0, run.config.ema_decay > 0
  values = writer.find(done, 'test/' if validated else 'eval')
  if processes.first_says(not values):
    chosen = checkpoints.choose('best')
    variables = meshes.replicate(jax.device_get(checkpoints.variables(chosen, averaged)), run.mesh)
    name = 'test' if validated else 'eval_ema' if averaged else 'eval'
    with contextlib.closing(Evaluator(run, 'test', stop)) if validated else contextlib.nullcontext(evaluator) as tested:
      values = {f'{name}/{key}': value for key, value in tested(variables).items()}
    writer.write(done, values)
  return values
