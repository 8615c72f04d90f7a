"""A run tried out: its configuration on these devices, its data for some seconds, and one training step."""

import contextlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from cmpe_jax.data.source import Call, Source
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.runtime import processes
from cmpe_jax.tools.check import machine
from cmpe_jax.tools.shared import hlo
from cmpe_jax.training import run as runs
from cmpe_jax.training.run import Run

SECONDS = 3.0  # of reading
MOST = 1000  # batches


class Trial:
  """What one check leaves for the next: the run, its opened data, two batches, and the compiled step."""

  def __init__(self, config: ml_collections.ConfigDict, opened: contextlib.ExitStack):
    self._config, self._opened = config, opened
    self._run: Run
    self._source: Source
    self._drawn: list[Any]
    self._step: Any
    self._state: Any
    self._rate = 0.0  # images/s of the input; 0: it lies on the devices

  def configure(self) -> dict[str, Any]:
    """The facts that all processes must share. Raises `UserError`: a configuration that does not work here."""
    self._run = runs.assemble(self._config)
    return self._run.facts()

  def tell_configuration(self, every: list[dict[str, Any]]) -> str:
    """One line. Raises `UserError` if the processes have other configurations."""
    processes.check_same(self._run.facts())
    config, devices = self._run.config, self._run.mesh.devices.size
    parts = f', in {config.accumulate_steps} parts' if config.accumulate_steps > 1 else ''
    each = f'{config.batch_size // devices} on each device{parts}' if devices > 1 or parts else 'on the one device'
    return f'batch_size={config.batch_size}, {each}, {config.dtype}'

  def read(self) -> dict[str, Any]:
    """Opens the training split and reads. Raises `UserError` if the data are missing or cannot be read."""
    began = time.perf_counter()
    self._source = self._opened.enter_context(contextlib.closing(self._run.open('train')))
    self._run = runs.of_size(self._run, self._source.num_examples)
    opening, size = time.perf_counter() - began, self._run.config.batch_size
    calls = [Call(step, 1, self._run.schedule.largest_side) for step in range(MOST)]
    with contextlib.closing(self._source.train(calls)) as batches:
      self._drawn = [jax.block_until_ready(next(batches)) for _ in range(2)]
      count, began = 0, time.perf_counter()
      if not self._source.resident:
        while count < MOST - 2 and time.perf_counter() < began + SECONDS:
          jax.block_until_ready(next(batches))
          count += 1
    return {
      'mark': runs.data_mark(self._source),
      'opening': opening,
      'bytes': sum(array.nbytes for array in self._source.resident.values()),
      'rate': count * size / (time.perf_counter() - began),
    }

  def tell_data(self, every: list[dict[str, Any]]) -> str:
    """One line. Raises `UserError` if the processes have other data."""
    processes.check_same({'training split': runs.data_mark(self._source)})
    first = f'{self._source.num_examples:,} images, opened in {max(found["opening"] for found in every):.1f} s'
    if self._source.resident:
      return f'{first}; they lie on each device ({every[0]["bytes"] / 2**20:,.1f} MiB) and need no reading'
    self._rate = min(found['rate'] for found in every)
    return f'{first}; batches are read at {self._rate:,.0f} images/s'

  def compile(self) -> dict[str, Any]:
    """Compiles the step that training takes. Raises `UserError` if it needs more memory than a device has."""
    run = self._run
    call = run.train_call(self._source.materialize)
    self._state = meshes.replicate(run.state(run.variables()), run.mesh)
    began = time.perf_counter()
    self._step = call.lower(self._state, self._source.resident, self._drawn[0]).compile()  # type: ignore[attr-defined]
    seconds = time.perf_counter() - began
    peak, memory = hlo.peak(self._step.memory_analysis()), machine.memory()
    if 0 < memory < peak:
      raise UserError(
        f'batch_size={run.config.batch_size} needs {peak / 2**30:,.2f} GiB of a device that has {memory / 2**30:,.2f}: '
        "lower it, set remat=True, raise accumulate_steps, use dtype='bfloat16', or more devices."
      )
    return {'seconds': seconds, 'peak': peak, 'memory': memory}

  def tell_compiled(self, every: list[dict[str, Any]]) -> str:
    """One line."""
    peak, memory = every[0]['peak'], min(found['memory'] for found in every)
    share = f', {peak / memory:.0%} of its {memory / 2**30:,.1f} GiB' if memory else ', of an unknown size'
    seconds = max(found['seconds'] for found in every)
    return f'in {seconds:.1f} s (less if the cache had it); at most {peak / 2**20:,.0f} MiB of each device{share}'

  def step(self) -> dict[str, Any]:
    """Takes two steps; the second one's seconds. Raises `UserError` if a loss or gradient is not finite."""
    state, resident = self._state, self._source.resident
    del self._state  # donated
    state, first = jax.block_until_ready(self._step(state, resident, self._drawn[0]))
    began = time.perf_counter()
    state, second = jax.block_until_ready(self._step(state, resident, self._drawn[1]))
    seconds = time.perf_counter() - began
    losses = [
      float(np.asarray(found['loss'][0]).sum() / np.asarray(found['loss'][1]).sum()) for found in (first, second)
    ]
    if not all(np.asarray(found['finite']).all() for found in (first, second)):
      raise UserError(
        f'the loss ({losses[0]:.4f}, {losses[1]:.4f}) or its gradient is not finite after a step: lower '
        f'learning_rate={self._config.learning_rate:g}, set grad_clip_norm, or look at the data.'
      )
    return {'seconds': seconds, 'losses': losses}

  def tell_step(self, every: list[dict[str, Any]]) -> str:
    """One line."""
    seconds, losses = max(found['seconds'] for found in every), every[0]['losses']
    rate = self._run.config.batch_size / seconds
    lines = [
      f'loss {losses[0]:.4f}, then {losses[1]:.4f}; the second step took {seconds:.3f} s: {rate:,.0f} images/s, of one '
      'step (no benchmark)'
    ]
    if self._rate:
      much = 'enough' if self._rate >= rate else 'not enough: raise input_threads or set input_processes'
      lines.append(f'the input gives {self._rate / rate:.2f} times as many images/s: {much}')
    return '\n'.join(lines)
