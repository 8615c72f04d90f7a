"""The programs that `tools.benchmark step` compares: one network by gate, form and order of activation, in two modes."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from cmpe_jax import config as configs
from cmpe_jax import mesh as meshes
from cmpe_jax import models, optimizer, state, step
from cmpe_jax.data import augment, datasets, stream
from cmpe_jax.errors import check_choice

MODES = ('train', 'infer')
ORDERS = ('pre', 'post')
STEPS_AN_EPOCH = 1000  # for the schedule of the learning rate; no data are there to count


@dataclasses.dataclass(frozen=True)
class Cell:
  """One program.

  Attributes:
    order: 'pre' or 'post', activation before or after the convolutions.
    gate: of `config.GATES`.
    form: of `config.GATE_FORMS`; '-' without a gate, whose forms are the same program.
    mode: 'train': the training step, optimizer included; 'infer': images to logits.
  """

  order: str
  gate: str
  form: str
  mode: str

  @property
  def name(self) -> str:
    """'post pair_1x1 exact train'."""
    return ' '.join(dataclasses.astuple(self))

  @property
  def reference(self) -> 'Cell':
    """The same without a gate."""
    return dataclasses.replace(self, gate='none', form='-')


def cells(orders: Sequence[str], gates: Sequence[str], forms: Sequence[str], modes: Sequence[str]) -> list[Cell]:
  """All combinations, those that compile fast first. Raises `UserError`: an unknown name."""
  known = {'--orders': ORDERS, '--gates': configs.GATES, '--forms': configs.GATE_FORMS, '--modes': MODES}
  for (flag, allowed), given in zip(known.items(), (orders, gates, forms, modes), strict=True):
    for value in given:
      check_choice(flag, value, allowed)
  every = itertools.product(sorted(modes), orders, gates, forms)
  found = [Cell(order, gate, form if gate != 'none' else '-', mode) for mode, order, gate, form in every]
  return list(dict.fromkeys(found))


@dataclasses.dataclass(frozen=True)
class Program:
  """What a cell compiles, and what it is called with.

  Attributes:
    call: jitted; (state, {}, batch) -> (state, metrics) in training, (variables, {}, batch) -> logits in inference.
    shapes: of its arguments, on the device.
    arguments: () -> the arguments themselves: initial variables, and random images and labels.
    images: of one call.
  """

  call: Any
  shapes: tuple[Any, ...]
  arguments: Callable[[], tuple[Any, ...]]
  images: int

  def lower(self, platform: str) -> jax.stages.Lowered:
    """Traced and lowered for 'cpu', 'cuda' or 'tpu', which need not be here."""
    return self.call.trace(*self.shapes).lower(lowering_platforms=(platform,))


def program(config: ml_collections.ConfigDict, cell: Cell, device: jax.Device) -> Program:
  """The program of a cell, as training and evaluation have it, for one device.

  Args:
    config: everything but gate, form and order of activation; its batch is that of the one device.
    cell: which program.
    device: where it shall run; it need not be there.

  Raises:
    UserError: a network that cannot be built.
  """
  config = datasets.resolve(config)
  config.model.update({'gate': cell.gate, 'preact': cell.order == 'pre'})
  config.model.gate_form = cell.form if cell.form != '-' else 'exact'
  config.model.zero_init = config.model.zero_init and not config.model.preact
  info, mesh = datasets.describe(config), meshes.make([device])
  meshes.check_batch(mesh, config.batch_size, config.accumulate_steps)
  model = models.of_run(config)
  start = models.init(model, step.key(config.seed, step.INIT, 0), info.image_size)
  batch = _batch(config, info)
  values: tuple[Any, ...] = (start, {}, batch)
  if cell.mode == 'infer':
    call = _infer(config, model, info, mesh)
  else:
    rate = optimizer.schedule(config, max(1, round(config.epochs * STEPS_AN_EPOCH)))
    transformation = optimizer.make(config, rate)
    call = step.compile_train(step.make_train(config, model, info, transformation, rate), stream.Streamed, mesh)
    drawn = jax.tree.map(lambda x: x[None], batch)  # one step a call
    values = (state.create(start, transformation, config.ema_decay > 0), {}, drawn)
  sharding = meshes.replicated(mesh)
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), values)
  return Program(call, shapes, lambda: meshes.replicate(values, mesh), config.batch_size)


def _infer(config: ml_collections.ConfigDict, model: Any, info: datasets.Dataset, mesh: Mesh) -> Any:
  """(variables, {}, batch) -> logits [B, classes], jitted."""
  dtype = step.image_dtype(config)

  def infer(variables: dict[str, Any], resident: dict[str, Any], batch: dict[str, jax.Array]) -> jax.Array:
    del resident
    return model.apply(variables, augment.evaluate(batch, info, dtype), train=False)

  return jax.jit(infer, out_shardings=meshes.replicated(mesh))


def _batch(config: ml_collections.ConfigDict, info: datasets.Dataset) -> dict[str, np.ndarray]:
  size, random = config.batch_size, np.random.default_rng(config.seed)
  return {
    'image': random.integers(0, 256, (size, info.image_size, info.image_size, 3), np.uint8),
    'label': random.integers(0, info.num_classes, size).astype(np.int32),
    'mask': np.ones(size, bool),
    'index': np.arange(size, dtype=np.int32),
  }


def memory(compiled: Any) -> dict[str, int]:
  """Bytes of a compiled program: 'temporary', and 'peak': arguments, results that are not arguments, temporary ones."""
  found = compiled.memory_analysis()
  kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
  return {'temporary': found.temp_size_in_bytes, 'peak': kept + found.temp_size_in_bytes}
