"""The training loop, in the order in which things happen."""

import contextlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from cmpe_jax import config as configs
from cmpe_jax import events, metrics, models, processes, step, warm_start
from cmpe_jax import mesh as meshes
from cmpe_jax import optimizer as optimizers
from cmpe_jax import state as states
from cmpe_jax.checkpoint import Checkpoints, check_config
from cmpe_jax.data import datasets, pipeline
from cmpe_jax.errors import Interrupted, UserError
from cmpe_jax.evaluate import Evaluator, describe
from cmpe_jax.processes import Stop
from cmpe_jax.profiler import Profiler
from cmpe_jax.state import TrainState


class Trainer:
  """Everything that one run needs, opened before anything is compiled, so that wrong inputs show at once."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: str, profile: tuple[int, int] | None = None):
    """Reads configuration and data. `profile`: first and last step to trace.

    Raises:
      UserError: anything in the configuration or the data that cannot work.
    """
    configs.check(config)
    self.config = config = datasets.resolve(config)
    self.workdir, self.profile = workdir, profile
    self.mesh, self.info = meshes.make(), datasets.describe(config)
    meshes.check_batch(self.mesh, config.batch_size, config.accumulate_steps)
    self.model = models.of_run(config)
    self.source = pipeline.open_split(config, self.info, 'train', self.mesh)
    self.plan = events.plan(config, self.source.num_examples)
    self.rate = optimizers.schedule(config, self.plan.total)
    self.optimizer = optimizers.make(config, self.rate)
    self.evaluator = self._evaluator('validation' if config.validation else 'test')
    train_step = step.make_train(config, self.model, self.info, self.optimizer, self.rate)
    self.call = step.compile_train(train_step, self.source, self.mesh)
    self.compiled: set[int] = set()
    self.clock, self.late, self.means = metrics.Clock(), metrics.Late(), metrics.Means()
    self.logged = 0

  def open(self) -> None:
    """Opens the workdir for writing. Several processes check that they see the same one, data and configuration."""
    scored = self.config.validation > 0
    self.checkpoints = Checkpoints(self.workdir, self.config.keep_checkpoints, scored)
    if jax.process_count() > 1:
      processes.check_same(
        {
          **{f'config.{key}': value for key, value in configs.flatten(self.config).items() if key != 'data_dir'},
          'workdir': processes.workdir_mark(self.workdir),
          'training split': processes.data_mark(self.source),
        }
      )

  def _evaluator(self, split: str) -> Evaluator:
    return Evaluator(self.config, self.model, self.info, split, self.mesh)

  def start(self) -> tuple[TrainState, int]:
    """The newest checkpoint's state, or the initial one; and its step."""
    newest = max(self.checkpoints.steps(), default=None)
    if newest is not None:
      check_config(self.config, self.checkpoints.config(newest), newest)
    variables = models.init(self.model, step.key(self.config.seed, step.INIT, 0), self.info.image_size)
    metrics.say(self._heading(variables['params']))
    if newest is None and self.config.init_from:
      variables = processes.together('init_from', lambda: warm_start.load(self.config, variables))
    placed = meshes.replicate(variables, self.mesh)
    state = meshes.replicate(states.create(placed, self.optimizer, self.config.ema_decay > 0), self.mesh)
    if newest is not None:
      state = self.checkpoints.restore(newest, state)
      metrics.say(f'going on from the checkpoint at step {newest}')
    self.writer = metrics.Writer(self.workdir, newest or 0)
    return state, newest or 0

  def _heading(self, params: Any) -> str:
    config = self.config
    chosen = (
      'by accuracy on the validation part' if config.validation else 'the newest (validation=0: nothing held out)'
    )
    devices = f'{self.mesh.devices.size} x {self.mesh.devices.flat[0].device_kind}'
    if jax.process_count() > 1:
      devices += f' of {jax.process_count()} processes'
    rows = {
      'dataset': f'{config.dataset}: {self.source.num_examples:,} images to train on, {self.info.num_classes} classes',
      'network': f'{config.model.backbone} {config.model.depth}, gate {config.model.gate}, {states.count(params):,} parameters',
      'steps': f'{self.plan.total:,} of {config.batch_size} images ({config.epochs:g} epochs)',
      'devices': devices,
      'best checkpoint': chosen,
    }
    return metrics.table(rows) + '\n\n' + optimizers.table(config, params) + '\n'

  def loop(self, state: TrainState, start: int, stop: Stop) -> TrainState:
    """Trains from step `start` to the end of the plan."""
    self.logged = start
    self.clock = metrics.Clock()
    drawn = self.source.train(self.plan.calls(start))
    with contextlib.closing(drawn), Profiler(self.workdir, self.profile) as profiler:
      for first, count in self.plan.calls(start):
        began = time.perf_counter()
        batch = next(drawn)
        self.clock.waited(time.perf_counter() - began)
        profiler.before(first, count)
        state, sums = self._dispatch(state, batch, count)
        self._read(self.late.put(first, sums))
        if profiler.after(first + count):
          jax.block_until_ready(state)
          profiler.end()
        self._events(first + count, state, stop())
    return state

  def _dispatch(self, state: TrainState, batch: Any, count: int) -> tuple[TrainState, Any]:
    """Hands a call to the device. The first one of each size compiles, before it returns."""
    began, new = time.perf_counter(), count not in self.compiled
    if new:
      metrics.say('compiling ...')
    result = self.call(state, self.source.resident, batch)
    if new:
      self.compiled.add(count)
      self.clock.paused(time.perf_counter() - began, compiling=True)
    return result

  def _read(self, results) -> None:
    """Takes finished calls' metrics: checks them, adds them up, logs where the plan says so."""
    for first, host in results:
      rates = host.pop('learning_rate')
      finite = host.pop('finite')
      for i in range(len(finite)):
        done = first + i + 1
        if not finite[i]:
          raise UserError(self._diverged(done))
        self.means.add(jax.tree.map(lambda x, i=i: x[i], host))
        if events.LOG in self.plan.at(done):
          self._log(done, float(rates[i]))

  def _log(self, done: int, rate: float) -> None:
    values = {f'train/{name}': value for name, value in self.means.means().items()}
    values |= {'train/learning_rate': rate} | self.clock.lap(done - self.logged, self.config.batch_size)
    self.means, self.logged = metrics.Means(), done
    self.writer.write(done, values)
    metrics.say(metrics.progress(
      done, self.plan.total, self.plan.epoch(done), values, self.clock.left(self.plan.total - done)
    ))  # fmt: skip

  def _diverged(self, done: int) -> str:
    """The message for a step whose loss or gradient is not finite, with its examples."""
    (drawn,) = self.source.train([(done - 1, 1)])
    find = jax.jit(
      lambda resident, drawn: self.source.materialize(resident, jax.tree.map(lambda x: x[0], drawn))['index'],
      out_shardings=meshes.replicated(self.mesh),
    )
    rows = np.asarray(find(self.source.resident, drawn))
    return (
      f'the loss or its gradient is not finite at step {done}; this batch holds the training examples '
      f'{sorted(set(rows.tolist()))}. Lower learning_rate={self.config.learning_rate:g} or set grad_clip_norm; '
      f'checkpoints up to step {max(self.checkpoints.steps(), default=0)} are kept.'
    )

  def _events(self, done: int, state: TrainState, stopped: bool) -> None:
    """Evaluates and saves where the plan says so. Before that, all earlier losses must have been finite."""
    due = self.plan.at(done)
    if not (stopped or due & {events.EVALUATE, events.CHECKPOINT}):
      return
    self._read(self.late.rest())
    began = time.perf_counter()
    score = self._evaluate(done, state) if events.EVALUATE in due else None
    if events.CHECKPOINT in due or stopped:
      self.checkpoints.save(state, self.config, score if self.config.validation else None)
    self.clock.paused(time.perf_counter() - began)
    if stopped and done < self.plan.total:
      self.checkpoints.wait()
      raise Interrupted(f'stopped and saved at step {done} of {self.plan.total}: the same command goes on from there.')

  def _evaluate(self, done: int, state: TrainState) -> float:
    """Writes eval/... (and eval_ema/...); returns the accuracy that chooses the best checkpoint."""
    values = {f'eval/{name}': value for name, value in self.evaluator(state.variables).items()}
    score = values['eval/accuracy']
    if self.config.ema_decay:
      values |= {f'eval_ema/{name}': value for name, value in self.evaluator(state.ema).items()}
      score = values['eval_ema/accuracy']
    self.writer.write(done, values)
    metrics.say(metrics.evaluated(done, self.plan.total, self.evaluator.split, values))
    return score

  def results(self, done: int) -> dict[str, float]:
    """The figures on the test split of the run that ended with step `done`, from metrics.jsonl where they are written.

    Without a validation part they are the last evaluation's; else the best checkpoint's, under test/....
    """
    prefix = 'test/' if self.config.validation else 'eval'
    values = self.writer.find(done, prefix)
    if processes.first_says(not values):
      chosen = self.checkpoints.choose('best')
      averaged = self.config.ema_decay > 0
      variables = meshes.replicate(jax.device_get(self.checkpoints.variables(chosen, averaged)), self.mesh)
      evaluator = self._evaluator('test') if self.config.validation else self.evaluator
      name = 'test' if self.config.validation else 'eval_ema' if averaged else 'eval'
      values = {f'{name}/{key}': value for key, value in evaluator(variables).items()}
      self.writer.write(done, values)
    return values


def run(config: ml_collections.ConfigDict, workdir: str, profile: tuple[int, int] | None = None) -> dict[str, float]:
  """Trains `config` in `workdir`, from its newest checkpoint if it has one, and prints a table of the results.

  Returns:
    The figures on the test split: {'eval/accuracy': ..., ...}.

  Raises:
    UserError: a wrong input, or a loss that is not finite.
    Interrupted: SIGTERM or SIGINT; the state is saved, the same call goes on.
  """
  began = time.perf_counter()
  with Stop() as stop:
    trainer = processes.together('configuration and data', lambda: Trainer(config, workdir, profile))
    trainer.open()
    try:
      state, start = trainer.start()
      if start >= trainer.plan.total:
        metrics.say(f'nothing left to do: step {start} of {trainer.plan.total} is done (raise epochs to train on).')
      else:
        trainer.loop(state, start, stop)
      trainer.checkpoints.wait()
      values = trainer.results(max(start, trainer.plan.total))
      trainer.writer.close()
      chosen = trainer.checkpoints.choose('best')
      processes.barrier('end')
    finally:
      trainer.checkpoints.close()
  metrics.say('\n' + metrics.table(describe(values) | {
    'time': f'{time.perf_counter() - began:.0f} s',
    'checkpoint': str(trainer.checkpoints.directory / str(chosen)),
    'curves': f'tensorboard --logdir {workdir}/{metrics.CURVES}',
    'numbers': f'{workdir}/{metrics.FILE}',
  }))  # fmt: skip
  return values
