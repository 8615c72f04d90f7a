"""The training loop, in the order in which things happen."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from cmpe_jax.data.source import Call, Source
from cmpe_jax.errors import Interrupted, UserError
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.runtime import processes
from cmpe_jax.runtime.profiler import Profiler
from cmpe_jax.runtime.signals import Stop, Told
from cmpe_jax.training import account as accounts
from cmpe_jax.training.account import Account
from cmpe_jax.training.checkpoint import Checkpoints, Notes
from cmpe_jax.training.clock import Clock
from cmpe_jax.training.console import Console
from cmpe_jax.training.evaluate import Evaluator
from cmpe_jax.training.metrics import Late, Means
from cmpe_jax.training.run import Run
from cmpe_jax.training.schedule import CHECKPOINT, EVALUATE, LOG
from cmpe_jax.training.state import TrainState
from cmpe_jax.training.writer import Writer


class Trainer:
  """Takes the steps of a run from `start` to its end. All that it works with is opened, and closed, by its caller."""

  def __init__(
    self,
    run: Run,
    source: Source,
    evaluator: Evaluator,
    checkpoints: Checkpoints,
    writer: Writer,
    console: Console,
    profiler: Profiler,
    stop: Stop,
    start: int,
    notes: Notes,
    account: Account,
  ):
    """`start`: the step of the state that `train` is given; `notes`: those of its checkpoint."""
    self._run, self._schedule, self._source, self._evaluator = run, run.schedule, source, evaluator
    self._checkpoints, self._writer, self._console = checkpoints, writer, console
    self._profiler, self._stop, self._account = profiler, stop, account
    self._start = self._timed = start
    self._call = run.train_call(source.materialize)
    self._compiled: dict[tuple[int, int], Callable[..., Any]] = {}
    self._clock: Clock  # of `train`: what `catch_up` does is no training
    self._late, self._means = Late(), Means(notes.get('sums'))

  def train(self, state: TrainState) -> TrainState:
    """The state after the last step, from the one before step `start`.

    Raises:
      UserError: a loss or gradient that is not finite.
      Interrupted: stopped by a signal, and saved.
    """
    calls = list(self._schedule.calls(self._start))
    self._clock = Clock()
    with contextlib.closing(self._source.train(calls)) as drawn, self._account.phase(accounts.TRAINING):
      for first, count, side in calls:
        began, done = time.perf_counter(), first + count
        with self._leaving(first, state):
          with self._account.phase(accounts.DATA):
            batch = next(drawn)
          self._clock.waited(time.perf_counter() - began)
          call = self._compile((count, side), state, batch)
        self._profiler.before(first, count)
        self._stop.unsaved = True
        state, sums = call(state, self._source.resident, batch)
        self._read(self._late.put(first, sums))
        if self._profiler.after(done):
          jax.block_until_ready(state)
          self._profiler.end()
        with self._leaving(done, state):
          self._stop.check()
          self._events(done, state)
    return state

  def _compile(self, shape: tuple[int, int], state: TrainState, batch: Any) -> Callable[..., Any]:
    """The program for calls of a (number of steps, side of the images). Raises `Told`: a signal came meanwhile."""
    if shape not in self._compiled:
      self._console.say('compiling ...')
      began, given = time.perf_counter(), (state, self._source.resident, batch)
      with self._account.phase(accounts.COMPILATION):
        self._compiled[shape] = self._stop.unless_told(lambda: self._call.lower(*given).compile())
      self._clock.paused(time.perf_counter() - began, compiling=True)
    return self._compiled[shape]

  def _read(self, results: Iterable[tuple[int, Any]]) -> None:
    """Takes finished calls' metrics: checks them, adds them up, logs where the schedule says so."""
    for first, host in results:
      rates = host.pop('learning_rate')
      finite = host.pop('finite')
      end, speed = first + len(finite), None
      self._account.finished(end, len(finite), self._schedule.side(first))
      for i in range(len(finite)):
        done = first + i + 1
        if not finite[i]:
          raise UserError(self._diverged(done))
        self._means.add(jax.tree.map(lambda x, i=i: x[i], host))
        if LOG in self._schedule.at(done):
          speed = speed or self._speed(end)
          self._log(done, {'train/learning_rate': float(rates[i])} | speed)

  def _speed(self, end: int) -> dict[str, float]:
    """Of the calls that have ended since the last time; the last of them with step `end`, whose steps come at once."""
    steps, self._timed = end - self._timed, end
    return self._clock.lap(steps, self._schedule.batch_size)

  def _log(self, done: int, values: dict[str, float]) -> None:
    values = {f'train/{name}': value for name, value in self._means.means().items()} | values
    self._means = Means()
    self._writer.write(done, values)
    total = self._schedule.total
    self._console.logged(done, total, self._schedule.epoch(done), values, self._clock.left(total - done))

  def _diverged(self, done: int) -> str:
    """The message for a step whose loss or gradient is not finite, with its examples."""
    (drawn,) = self._source.train([Call(done - 1, 1, self._schedule.side(done - 1))])
    find = jax.jit(
      lambda resident, drawn: self._source.materialize(resident, jax.tree.map(lambda x: x[0], drawn))['index'],
      out_shardings=meshes.replicated(self._run.mesh),
    )
    rows = np.asarray(find(self._source.resident, drawn))
    return (
      f'the loss or its gradient is not finite at step {done}; this batch holds the training examples '
      f'{sorted(set(rows.tolist()))}. Lower learning_rate={self._run.config.learning_rate:g} or set grad_clip_norm; '
      f'checkpoints up to step {max(self._checkpoints.steps(), default=0)} are kept.'
    )

  def _events(self, done: int, state: TrainState) -> None:
    """Evaluates and saves where the schedule says so. Before that, all earlier losses must have been finite."""
    due, select = self._schedule.at(done), self._schedule.select
    if not due & {EVALUATE, CHECKPOINT}:
      return
    self._read(self._late.rest())
    began, compiled = time.perf_counter(), self._evaluator.compiled_in
    if CHECKPOINT in due and not select:  # first: an evaluation that fails, as of a bad image, does not cost the steps
      self._save(state, None)
    score = self._evaluate(done, state) if EVALUATE in due else None
    if CHECKPOINT in due and select:
      self._save(state, score)
    if CHECKPOINT in due:
      self._account.saved(done)  # the evaluation of this step, whose lines are kept, included
    compiled = self._evaluator.compiled_in - compiled
    self._clock.paused(compiled, compiling=True)
    self._clock.paused(time.perf_counter() - began - compiled)

  def _save(self, state: TrainState, score: float | None) -> None:
    with self._account.phase(accounts.CHECKPOINTS):
      self._writer.send()
      classes = list(self._run.dataset.class_names)
      notes = {'sums': self._means.sums, 'files': self._run.marks, 'classes': classes}
      self._checkpoints.save(state, self._run.config, score, notes)
    self._account.saved(int(state.step))

  @contextlib.contextmanager
  def _leaving(self, done: int, state: TrainState) -> Iterator[None]:
    """Where the run ends if a signal is found inside: saves what is new. `catch_up` makes up for what is left out."""
    try:
      yield
    except Interrupted as error:
      if not isinstance(error, Told) and not self._stop.is_reason:
        raise
      self._read(self._late.rest())
      with self._account.phase(accounts.CHECKPOINTS):
        self._checkpoints.wait()
        if done > self._start:
          self._save(state, None)
          self._checkpoints.wait()
      processes.barrier('stopped')
      how = 'stopped and saved' if done > self._start else 'stopped'
      raise Interrupted(
        f'{how} at step {done} of {self._schedule.total}: the same command goes on from there.'
      ) from None

  def catch_up(self, state: TrainState) -> None:
    """Evaluates at the start what a run that ended between its checkpoint and its evaluation left out.

    The score is added to the checkpoint where it decides, and where the uninterrupted run has a checkpoint too.
    """
    start, schedule = self._start, self._schedule
    due = schedule.at(start) if 0 < start <= schedule.total else frozenset()
    if EVALUATE not in due:
      return
    found = self._writer.find(start, 'eval')
    score = self._evaluate(start, state) if processes.first_says(not found) else _score(found)
    if schedule.select and CHECKPOINT in due:
      self._checkpoints.add_score(start, score)

  def _evaluate(self, done: int, state: TrainState) -> float:
    """Writes eval/... (and eval_ema/...); returns the accuracy that chooses the best checkpoint."""
    values = {f'eval/{name}': value for name, value in self._evaluator(state.variables).items()}
    if state.ema:
      values |= {f'eval_ema/{name}': value for name, value in self._evaluator(state.ema).items()}
    self._writer.write(done, values)
    self._console.evaluated(done, self._schedule.total, self._evaluator.split, values)
    return _score(values)


def _score(values: dict[str, float]) -> float:
  """Of an evaluation: the accuracy of the moving averages, if there are any. 0 in processes that know of none."""
  return values.get('eval_ema/accuracy', values.get('eval/accuracy', 0.0))
