"""The training loop, in the order in which things happen."""

import contextlib
import time
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from cmpe_jax.data.source import Call, Source
from cmpe_jax.errors import Interrupted, UserError
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.runtime import processes
from cmpe_jax.runtime.profiler import Profiler
from cmpe_jax.runtime.signals import Stop
from cmpe_jax.training import account as accounts
from cmpe_jax.training.account import Account
from cmpe_jax.training.checkpoint import Checkpoints
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
    account: Account,
  ):
    self._run, self._schedule, self._source, self._evaluator = run, run.schedule, source, evaluator
    self._checkpoints, self._writer, self._console = checkpoints, writer, console
    self._profiler, self._stop, self._account = profiler, stop, account
    self._start = self._logged = start
    self._call, self._compiled = run.train_call(source.materialize), set[tuple[int, int]]()
    self._clock, self._late, self._means = Clock(), Late(), Means()

  def train(self, state: TrainState) -> TrainState:
    """The state after the last step, from the one before step `start`.

    Raises:
      UserError: a loss or gradient that is not finite.
      Interrupted: stopped by a signal, and saved.
    """
    calls = list(self._schedule.calls(self._start))
    with contextlib.closing(self._source.train(calls)) as drawn, self._account.phase(accounts.TRAINING):
      for first, count, side in calls:
        began = time.perf_counter()
        with self._account.phase(accounts.DATA):
          batch = next(drawn)
        self._clock.waited(time.perf_counter() - began)
        self._profiler.before(first, count)
        state, sums = self._dispatch(state, batch, (count, side))
        self._read(self._late.put(first, sums))
        if self._profiler.after(first + count):
          jax.block_until_ready(state)
          self._profiler.end()
        self._events(first + count, state, self._stop())
    return state

  def _dispatch(self, state: TrainState, batch: Any, shape: tuple[int, int]) -> tuple[TrainState, Any]:
    """Hands a call to the device. The first one of each (steps, side of the images) compiles, before it returns."""
    began, new = time.perf_counter(), shape not in self._compiled
    if new:
      self._console.say('compiling ...')
    with self._account.phase(accounts.COMPILATION) if new else contextlib.nullcontext():
      result = self._call(state, self._source.resident, batch)
    if new:
      self._compiled.add(shape)
      self._clock.paused(time.perf_counter() - began, compiling=True)
    return result

  def _read(self, results: Iterable[tuple[int, Any]]) -> None:
    """Takes finished calls' metrics: checks them, adds them up, logs where the schedule says so."""
    for first, host in results:
      rates = host.pop('learning_rate')
      finite = host.pop('finite')
      self._account.finished(first + len(finite), len(finite), self._schedule.side(first))
      for i in range(len(finite)):
        done = first + i + 1
        if not finite[i]:
          raise UserError(self._diverged(done))
        self._means.add(jax.tree.map(lambda x, i=i: x[i], host))
        if LOG in self._schedule.at(done):
          self._log(done, float(rates[i]))

  def _log(self, done: int, rate: float) -> None:
    values = {f'train/{name}': value for name, value in self._means.means().items()}
    values |= {'train/learning_rate': rate}
    values |= self._clock.lap(done - self._logged, self._schedule.batch_size)
    self._means, self._logged = Means(), done
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

  def _events(self, done: int, state: TrainState, stopped: bool) -> None:
    """Evaluates and saves where the schedule says so. Before that, all earlier losses must have been finite."""
    due, total = self._schedule.at(done), self._schedule.total
    if not (stopped or due & {EVALUATE, CHECKPOINT}):
      return
    self._read(self._late.rest())
    began = time.perf_counter()
    saves, select = CHECKPOINT in due or stopped, self._schedule.select
    if saves and not select:  # first: an evaluation that fails, as of an unreadable image, does not cost the steps
      self._save(state, None)
    score = self._evaluate(done, state) if EVALUATE in due else None
    if saves and select:
      self._save(state, score)
    if saves:
      self._account.saved(done)  # the evaluation of this step, whose lines are kept, included
    self._clock.paused(time.perf_counter() - began)
    if stopped and done < total:
      with self._account.phase(accounts.CHECKPOINTS):
        self._checkpoints.wait()
      raise Interrupted(f'stopped and saved at step {done} of {total}: the same command goes on from there.')

  def _save(self, state: TrainState, score: float | None) -> None:
    with self._account.phase(accounts.CHECKPOINTS):
      self._writer.send()
      self._checkpoints.save(state, self._run.config, score)
    self._account.saved(int(state.step))

  def catch_up(self, state: TrainState) -> None:
    """Evaluates at the start what a run that ended between its checkpoint and its evaluation left out."""
    start, schedule = self._start, self._schedule
    due = not schedule.select and 0 < start <= schedule.total and EVALUATE in schedule.at(start)
    if due and processes.first_says(not self._writer.find(start, 'eval/')):
      self._evaluate(start, state)

  def _evaluate(self, done: int, state: TrainState) -> float:
    """Writes eval/... (and eval_ema/...); returns the accuracy that chooses the best checkpoint."""
    values = {f'eval/{name}': value for name, value in self._evaluator(state.variables).items()}
    score = values['eval/accuracy']
    if state.ema:
      values |= {f'eval_ema/{name}': value for name, value in self._evaluator(state.ema).items()}
      score = values['eval_ema/accuracy']
    self._writer.write(done, values)
    self._console.evaluated(done, self._schedule.total, self._evaluator.split, values)
    return score
