"""Compiles a run for machines that you do not have yet, and says whether it fits, how fast it can be and what it takes.

`python -m cmpe_jax.tools.plan --config=configs/imagenet_cmpe50.py --topology=v5e:4x4 [--config.batch_size=4096]`
compiles the very train and evaluation steps of the training loop with the TPU compiler, on this CPU. It reads no
data.
"""

import dataclasses
import functools
import json
import re
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from absl import flags
from jax.sharding import Mesh

from cmpe_jax.config import check
from cmpe_jax.data import resident, streamed
from cmpe_jax.errors import UserError
from cmpe_jax.models import builder
from cmpe_jax.runtime import command, files, printing, start
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.runtime.printing import aligned
from cmpe_jax.tools.plan import others, whole
from cmpe_jax.tools.shared import chips, hlo
from cmpe_jax.tools.shared import cost as costs
from cmpe_jax.training.run import Run, assemble


@dataclasses.dataclass(frozen=True)
class StepCost:
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

  def counted_by(self, part: 'StepCost', times: int = 1) -> 'StepCost':
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
  """Compiles the steps of a run for devices that may not be there."""

  def __init__(self, run: Run):
    self._run = run
    self._source = resident if run.dataset.is_resident else streamed

  def train(self, side: int = 0) -> StepCost:
    """The training step, of images of `side` pixels (0: the largest ones).

    Raises:
      UserError: it needs more memory than a device has.
    """
    run, config = self._run, self._run.config
    side = side or run.schedule.largest_side
    start = jax.eval_shape(run.state, run.variable_shapes())
    call = run.train_call(self._source.materialize, unroll=False)
    inputs = _inputs(run, 'train', config.batch_size, side, leading=1)
    whole = self._compile(call, start, inputs, config.batch_size)
    if config.accumulate_steps == 1 and not config.model.scan_blocks:
      return whole
    return whole.counted_by(self._without_loops().train(side), config.accumulate_steps)

  def evaluate(self) -> StepCost:
    """The evaluation step. Raises `UserError` if it needs more memory than a device has."""
    run = self._run
    size = run.eval_batch(run.dataset.counts['test'])
    inputs = _inputs(run, 'test', size, run.dataset.image_size)
    whole = self._compile(run.eval_call(self._source.materialize), run.variable_shapes(), inputs, size)
    return whole.counted_by(self._without_loops().evaluate()) if run.config.model.scan_blocks else whole

  def _without_loops(self) -> 'Plan':
    """One micro-batch as a step of its own, and blocks one after the other."""
    run, config = self._run, ml_collections.ConfigDict(self._run.config.to_dict())
    size = config.batch_size // config.accumulate_steps
    evaluated = config.eval_batch_size or config.batch_size
    config.update(
      {'batch_size': size, 'accumulate_steps': 1, 'eval_batch_size': evaluated, 'learning_rate_batch_size': 0}
    )
    config.model.scan_blocks = False
    return Plan(
      dataclasses.replace(run, config=config, model=builder.of_run(config, run.mesh.devices.flat[0].platform))
    )

  def _compile(self, call: Any, tree: Any, inputs: tuple[Any, Any], images: int) -> StepCost:
    traced = call.trace(_replicated(tree, self._run.mesh), *inputs)
    lowered = traced.lower(lowering_platforms=(chips.platform(self._run.mesh.devices.flat[0]),))
    began = time.perf_counter()
    try:
      compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      # Newer compilers begin with a number and a name: 'RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of ...'.
      why = re.sub(r'^RESOURCE_EXHAUSTED: (E\d+: \w+: )?', '', str(error).splitlines()[0])
      raise UserError(
        f'it does not fit. {why} Lower batch_size, set remat=True, raise accumulate_steps or take more chips.'
      ) from error
    seconds = time.perf_counter() - began
    memory, own = compiled.memory_analysis(), costs.of_program(lowered, compiled, self._run.mesh.size)
    return StepCost(
      images=images,
      arguments=memory.argument_size_in_bytes,
      temporary=memory.temp_size_in_bytes,
      peak=hlo.peak(memory),
      flops=own.flops,
      accessed=own.accessed,
      collectives=hlo.collectives(compiled.as_text()),
      seconds=seconds,
    )


def _inputs(run: Run, split: str, batch_size: int, side: int, leading: int = 0) -> tuple[Any, Any]:
  """Shapes of (resident, drawn), as the sources of cmpe_jax.data give them."""
  dataset, shape, sharding = run.dataset, (1,) * leading, meshes.batch_sharding(run.mesh, leading)
  image, examples = (side, side, 3), dataset.counts[split]

  def batch(dtype: Any, *rest: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*shape, batch_size, *rest), dtype, sharding=sharding)

  if dataset.is_resident:
    arrays = {
      'image': jax.ShapeDtypeStruct((examples, *image), jnp.uint8),
      'label': jax.ShapeDtypeStruct((examples,), jnp.int32),
    }
    return _replicated(arrays, run.mesh), batch(jnp.int32)
  drawn = {'image': batch(jnp.uint8, *image), 'label': batch(jnp.int32), 'mask': batch(jnp.bool_)}
  return {}, drawn | {'index': batch(jnp.int32)}


def _replicated(tree: Any, mesh: Mesh) -> Any:
  sharding = meshes.replicated(mesh)
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def table(found: dict[str, StepCost], chip: chips.Chip | None) -> str:
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
  check(config)
  asked = whole.Asked(flags.FLAGS.share or 0.0, flags.FLAGS.price or 0.0, flags.FLAGS.images_per_core or 0.0)
  asked.check()
  file = files.local(output, 'json') if output else None
  if file:
    files.check(file, 'json')  # compiling takes minutes
  devices, chip = chips.devices(flags.FLAGS.topology)
  asked.check_chip(chip)
  start.jax(config.dtype, cached=False)
  run = assemble(config, devices)
  found = compiled(run)
  printing.line(
    f'{command.config_name()}, {len(devices)} x {devices[0].device_kind}; figures of one device and one step\n'
  )
  printing.line(table(found, chip))
  said, stored = whole.disk(run)
  values: dict[str, Any] = {name: dataclasses.asdict(program) for name, program in found.items()} | {'disk': stored}
  if chip:
    printing.line(
      '\nThe images/s are bounds, not promises: all devices, if only memory traffic '
      f'({chip.bandwidth / 1e9:,.0f} GB/s) or only arithmetic ({chip.flops / 1e12:,.0f} TFLOP/s) took time '
      f'({chip.source}).\n'
    )
    speeds = {name: whole.Speed(cost.images, min(cost.bounds(chip).values())) for name, cost in found.items()}
    evaluation = speeds.pop('eval')
    trained = dict(zip(run.schedule.steps_by_side(), speeds.values(), strict=True))
    rows, values['run'] = whole.rows(run, trained, evaluation, len(devices), asked)
    printing.line(aligned(rows))
  printing.line('\n' + '\n'.join(said))
  if (config.model.backbone, config.model.depth) == ('imagenet_resnet', 50):
    printing.line('\n' + others.table())
  if file:
    files.write(file, json.dumps(values, indent=2) + '\n', 'json')


def compiled(run: Run) -> dict[str, StepCost]:
  """{'train': ..., 'eval': ...}, or {'train 160': ..., 'train 192': ..., 'eval': ...} where the images grow."""
  plan, sides, found = Plan(run), list(run.schedule.steps_by_side()), {}
  names = [f'train {side}' if len(sides) > 1 else 'train' for side in sides]
  steps = {name: functools.partial(plan.train, side) for name, side in zip(names, sides, strict=True)}
  for name, compile_step in (steps | {'eval': plan.evaluate}).items():
    where = f'{run.mesh.size} x {run.mesh.devices.flat[0].device_kind}'
    printing.line(f'compiling the {name} step for {where} ...', sys.stderr)
    found[name] = compile_step()
  return found
