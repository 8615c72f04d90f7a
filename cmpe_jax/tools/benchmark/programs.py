"""The programs that `benchmark step` compares: one network by gate, form and order of activation, in two modes."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from cmpe_jax import names
from cmpe_jax.data import streamed
from cmpe_jax.data.source import Batch
from cmpe_jax.errors import check_choice
from cmpe_jax.runtime import compiler
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training.run import Run, assemble, of_size

MODES = ('train', 'infer')
ORDERS = ('pre', 'post')
STEPS_AN_EPOCH = 1000  # for the schedule of the learning rate; no data are there to count


@dataclasses.dataclass(frozen=True)
class Setting:
  """One program.

  Attributes:
    order: 'pre' or 'post', activation before or after the convolutions.
    gate: of `names.GATES`.
    form: of `names.GATE_FORMS`; '-' without a gate, whose forms are the same program.
    mode: 'train': the training step, optimizer included; 'infer': images to logits.
  """

  order: str
  gate: str
  form: str
  mode: str

  @property
  def name(self) -> str:
    """'post pair_1x1 fused train'."""
    return ' '.join(dataclasses.astuple(self))

  @property
  def reference(self) -> 'Setting':
    """The same without a gate."""
    return dataclasses.replace(self, gate='none', form='-')


def settings(orders: Sequence[str], gates: Sequence[str], forms: Sequence[str], modes: Sequence[str]) -> list[Setting]:
  """All combinations, those that compile fast first. Raises `UserError`: an unknown name."""
  forms = [str(names.current('model.gate_form', form)) for form in forms]
  known = {'--orders': ORDERS, '--gates': tuple(names.GATES), '--forms': names.GATE_FORMS, '--modes': MODES}
  for (flag, allowed), given in zip(known.items(), (orders, gates, forms, modes), strict=True):
    for value in given:
      check_choice(flag, value, allowed)
  every = itertools.product(sorted(modes), orders, gates, forms)
  found = [Setting(order, gate, form if gate != 'none' else '-', mode) for mode, order, gate, form in every]
  return list(dict.fromkeys(found))


@dataclasses.dataclass(frozen=True)
class Program:
  """What a setting compiles, and what it is called with.

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


def program(config: ml_collections.ConfigDict, setting: Setting, device: jax.Device) -> Program:
  """The program of a setting, as training and evaluation have it, for one device.

  Args:
    config: everything but gate, form and order of activation; its batch is that of the one device.
    setting: which program.
    device: where it shall run; it need not be there.

  Raises:
    UserError: a network that cannot be built.
  """
  config = config.copy_and_resolve_references()
  config.model.update({'gate': setting.gate, 'preact': setting.order == 'pre'})
  config.model.gate_form = setting.form if setting.form != '-' else names.GATE_FORMS[0]
  config.model.zero_init = config.model.zero_init and not config.model.preact
  run = of_size(assemble(config, [device]), STEPS_AN_EPOCH * config.batch_size)
  batch = _batch(run, run.dataset.image_size if setting.mode == 'infer' else run.schedule.largest_side)
  values: tuple[Any, ...] = (run.variables(), {}, batch)
  if setting.mode == 'infer':
    options = compiler.options(run.mesh)
    call: Any = jax.jit(_infer(run), out_shardings=meshes.replicated(run.mesh), compiler_options=options)
  else:
    call = run.train_call(streamed.materialize)
    drawn = jax.tree.map(lambda x: x[None], batch)  # one step a call
    values = (run.state(run.variables()), {}, drawn)
  sharding = meshes.replicated(run.mesh)
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), values)
  return Program(call, shapes, lambda: meshes.replicate(values, run.mesh), config.batch_size)


def _infer(run: Run) -> Callable[..., jax.Array]:
  """(variables, {}, batch) -> logits [B, classes]."""

  def infer(variables: dict[str, Any], resident: dict[str, Any], batch: Batch) -> jax.Array:
    del resident
    return run.steps.logits(variables, batch)

  return infer


def _batch(run: Run, side: int) -> dict[str, np.ndarray]:
  size, random = run.config.batch_size, np.random.default_rng(run.config.seed)
  return {
    'image': random.integers(0, 256, (size, side, side, 3), np.uint8),
    'label': random.integers(0, run.dataset.num_classes, size).astype(np.int32),
    'mask': np.ones(size, bool),
    'index': np.arange(size, dtype=np.int32),
  }


def memory(compiled: Any) -> dict[str, int]:
  """Bytes of a compiled program: 'temporary', and 'peak': arguments, results that are not arguments, temporary ones."""
  found = compiled.memory_analysis()
  kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
  return {'temporary': found.temp_size_in_bytes, 'peak': kept + found.temp_size_in_bytes}
