"""Compiles a run for machines that you do not have yet, and says whether it fits and how fast it can be at most.

`python -m cmpe_jax.tools.plan --config=configs/imagenet_cmpe50.py --topology=v5e:4x4 [--config.batch_size=4096]`
compiles the very train and evaluation steps of the training loop with the TPU compiler, on this CPU. It reads no
data.
"""

import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from absl import flags
from jax.sharding import Mesh

from cmpe_jax import command, events, models, optimizer, state, step
from cmpe_jax import config as configs
from cmpe_jax import mesh as meshes
from cmpe_jax.data import datasets, folder, pipeline, stream
from cmpe_jax.errors import UserError
from cmpe_jax.tools import chips, hlo
from cmpe_jax.tools.tables import aligned


@dataclasses.dataclass(frozen=True)
class Program:
  """What the compiler says of one step, on one device.

  Attributes:
    images: the global batch.
    arguments: bytes of state, resident data and batch.
    temporary: bytes for what is computed on the way.
    peak: bytes at the worst moment, results included.
    flops: floating-point operations.
    accessed: bytes read and written by all operations, the figure of the compiler's cost analysis.
    collectives: {'all-reduce': (number, bytes)}.
    seconds: that compiling took here.
  """

  images: int
  arguments: int
  temporary: int
  peak: int
  flops: float
  accessed: float
  collectives: dict[str, tuple[int, int]]
  seconds: float

  def counted_by(self, part: 'Program', times: int = 1) -> 'Program':
    """This program's memory, with the operations of `part`, done `times` times.

    The compiler's cost analysis counts the body of a loop once. So `part` is a program without loops.
    """
    return dataclasses.replace(
      self,
      flops=part.flops * times,
      accessed=part.accessed * times,
      collectives={name: (count * times, size * times) for name, (count, size) in part.collectives.items()},
      seconds=self.seconds + part.seconds,
    )

  def bounds(self, chip: chips.Chip) -> dict[str, float]:
    """Images/s of all devices together if nothing but memory traffic, or nothing but arithmetic, took time."""
    return {'bandwidth': self.images * chip.bandwidth / self.accessed, 'FLOPs': self.images * chip.flops / self.flops}


class Plan:
  """Compiles the steps of a (resolved) configuration for devices that may not be there."""

  def __init__(self, config: ml_collections.ConfigDict, devices: list[jax.Device]):
    """Raises `UserError`: wrong values in the configuration; a batch that does not divide by the devices."""
    self._config, self._devices = config, devices
    self._mesh, self._info = meshes.make(devices), datasets.describe(config)
    meshes.check_batch(self._mesh, config.batch_size, config.accumulate_steps)
    self._examples = {split: _examples(config, self._info, split) for split in ('train', 'test')}
    self._model = models.of_run(config)
    self._source = pipeline.Resident if self._info.resident else stream.Streamed
    side = self._info.image_size
    image = jax.ShapeDtypeStruct((1, side, side, 3), step.image_dtype(config))
    variables = jax.eval_shape(lambda x: self._model.init(jax.random.key(0), x), image)
    self._variables = {name: variables[name] for name in ('params', 'batch_stats')}

  def train(self) -> Program:
    """The training step. Raises `UserError` if it needs more memory than a device has."""
    config = self._config
    rate = optimizer.schedule(config, events.plan(config, self._examples['train']).total)
    transformation = optimizer.make(config, rate)
    start = jax.eval_shape(lambda v: state.create(v, transformation, config.ema_decay > 0), self._variables)
    train_step = step.make_train(config, self._model, self._info, transformation, rate, unroll=False)
    call = step.compile_train(train_step, self._source, self._mesh)
    inputs = _inputs(self._info, self._mesh, self._examples['train'], config.batch_size, leading=1)
    whole = self._compile(call, start, inputs, config.batch_size)
    if config.accumulate_steps == 1 and not config.model.scan_blocks:
      return whole
    return whole.counted_by(self._without_loops().train(), config.accumulate_steps)

  def evaluate(self) -> Program:
    """The evaluation step. Raises `UserError` if it needs more memory than a device has."""
    config = self._config
    call = step.compile_eval(step.make_eval(config, self._model, self._info), self._source, self._mesh)
    size = meshes.eval_batch(self._mesh, config.eval_batch_size or config.batch_size, self._examples['test'])
    inputs = _inputs(self._info, self._mesh, self._examples['test'], size)
    whole = self._compile(call, self._variables, inputs, size)
    return whole.counted_by(self._without_loops().evaluate()) if config.model.scan_blocks else whole

  def _without_loops(self) -> 'Plan':
    """One micro-batch as a step of its own, and blocks one after the other."""
    config = ml_collections.ConfigDict(self._config.to_dict())
    size = config.batch_size // config.accumulate_steps
    evaluated = config.eval_batch_size or config.batch_size
    config.update(
      {'batch_size': size, 'accumulate_steps': 1, 'eval_batch_size': evaluated, 'learning_rate_batch_size': 0}
    )
    config.model.scan_blocks = False
    return Plan(config, self._devices)

  def _compile(self, call: Any, tree: Any, inputs: tuple[Any, Any], images: int) -> Program:
    traced = call.trace(_replicated(tree, self._mesh), *inputs)
    lowered = traced.lower(lowering_platforms=(self._devices[0].platform,))
    began = time.perf_counter()
    try:
      compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      why = str(error).splitlines()[0].removeprefix('RESOURCE_EXHAUSTED: ')
      raise UserError(
        f'it does not fit. {why} Lower batch_size, set remat=True, raise accumulate_steps or take more chips.'
      ) from error
    seconds = time.perf_counter() - began
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    floor = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    floor += memory.temp_size_in_bytes
    return Program(
      images=images,
      arguments=memory.argument_size_in_bytes,
      temporary=memory.temp_size_in_bytes,
      peak=max(memory.peak_memory_in_bytes, floor),  # the CPU's compiler leaves the temporary ones out
      flops=cost['flops'],
      accessed=cost['bytes accessed'],
      collectives=hlo.collectives(compiled.as_text()),
      seconds=seconds,
    )


def _examples(config: ml_collections.ConfigDict, info: datasets.Dataset, split: str) -> int:
  """Examples of 'train' or 'test', without the data."""
  if info.name.startswith(datasets.FOLDER_PREFIX):
    place = pathlib.Path(info.name.removeprefix(datasets.FOLDER_PREFIX))
    return len(folder.scan(place, config.split_seed).splits[split])
  return sum(datasets.KNOWN[info.name].counts[name] for name in datasets.stored_splits(config, split))


def _inputs(info: datasets.Dataset, mesh: Mesh, examples: int, batch_size: int, leading: int = 0) -> tuple[Any, Any]:
  """Shapes of (resident, drawn), as the sources of cmpe_jax.data give them."""
  shape, sharding = (1,) * leading, meshes.batch_sharding(mesh, leading)
  image = (info.image_size, info.image_size, 3)

  def batch(dtype: Any, *rest: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*shape, batch_size, *rest), dtype, sharding=sharding)

  if info.resident:
    resident = {
      'image': jax.ShapeDtypeStruct((examples, *image), jnp.uint8),
      'label': jax.ShapeDtypeStruct((examples,), jnp.int32),
    }
    return _replicated(resident, mesh), batch(jnp.int32)
  drawn = {'image': batch(jnp.uint8, *image), 'label': batch(jnp.int32), 'mask': batch(jnp.bool_)}
  return {}, drawn | {'index': batch(jnp.int32)}


def _replicated(tree: Any, mesh: Mesh) -> Any:
  sharding = meshes.replicated(mesh)
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def table(found: dict[str, Program], chip: chips.Chip | None) -> str:
  """The programs side by side."""
  every = list(found.values())
  rows = {
    '': [f'{name} step' for name in found],
    'images': [f'{program.images:,}' for program in every],
    'arguments': [_bytes(program.arguments) for program in every],
    'temporary': [_bytes(program.temporary) for program in every],
    'peak memory': [_bytes(program.peak) for program in every],
  }
  if chip:
    rows[f'  of the {_bytes(chip.memory)} of a chip'] = [f'{program.peak / chip.memory:.0%}' for program in every]
  rows['FLOPs'] = [f'{program.flops / 1e9:,.1f} G' for program in every]
  rows['bytes accessed'] = [_bytes(program.accessed) for program in every]
  for name in sorted({name for program in every for name in program.collectives}):
    pairs = [program.collectives.get(name, (0, 0)) for program in every]
    rows[name] = [f'{count} x, {_bytes(size)}' if count else '-' for count, size in pairs]
  if chip:
    for name in ('bandwidth', 'FLOPs'):
      rows[f'bound by {name}'] = [f'{program.bounds(chip)[name]:,.0f} images/s' for program in every]
  rows['compiled here in'] = [f'{program.seconds:.0f} s' for program in every]
  return aligned([[name, *cells] for name, cells in rows.items()])


def _bytes(count: float) -> str:
  unit, scale = next(((u, s) for u, s in (('GiB', 2**30), ('MiB', 2**20), ('KiB', 2**10)) if count >= s), ('B', 1))
  return f'{count / scale:,.2f} {unit}'


def main() -> None:
  """The command."""
  config, output = command.given_config('configs/imagenet_cmpe50.py'), flags.FLAGS.json
  configs.check(config)
  devices, chip = chips.devices(flags.FLAGS.topology)
  jax.config.update('jax_enable_x64', config.dtype == 'float64')
  plan = Plan(datasets.resolve(config), devices)
  found = {}
  for name, compile_step in (('train', plan.train), ('eval', plan.evaluate)):
    print(f'compiling the {name} step for {len(devices)} x {devices[0].device_kind} ...', file=sys.stderr, flush=True)
    found[name] = compile_step()
  print(f'{command.config_name()}, {len(devices)} x {devices[0].device_kind}; figures of one device and one step\n')
  print(table(found, chip))
  if chip:
    print(
      f'\nThe images/s are bounds, not promises: all devices, if only memory traffic ({chip.bandwidth / 1e9:,.0f} GB/s) '
      f'or only arithmetic ({chip.flops / 1e12:,.0f} TFLOP/s) took time ({chip.source}).'
    )
  if output:
    values = {name: dataclasses.asdict(program) for name, program in found.items()}
    pathlib.Path(output).write_text(json.dumps(values, indent=2) + '\n')


if __name__ == '__main__':
  command.config_flag()
  flags.DEFINE_string('topology', 'v5e:4x4', 'v5e, v5p or v6e and the chips of the slice; or cpu:8.')
  flags.DEFINE_string('json', None, 'A file that gets the numbers too.')
  sys.exit(command.run(main))
