"""A run, put together from its configuration and devices: here only, for training, evaluation and tools alike."""

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from cmpe_jax import config as configuration
from cmpe_jax.data import datasets, marks, splits
from cmpe_jax.data.datasets.dataset import Dataset
from cmpe_jax.data.source import Materialize, Source
from cmpe_jax.models import builder, initializers
from cmpe_jax.models.resnet import ResNet
from cmpe_jax.runtime import compiler
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training import checksums, optimizer, randomness, schedule, state, step


@dataclasses.dataclass(frozen=True)
class Run:
  """The parts of a run; nothing of it is read or compiled yet.

  Attributes:
    config: resolved: with the dataset's image size and number of classes.
    dataset: that `config.dataset` names.
    mesh: of the devices.
    model: the network.
    num_examples: of the training split.
  """

  config: ml_collections.ConfigDict
  dataset: Dataset
  mesh: jax.sharding.Mesh
  model: ResNet
  num_examples: int

  def open(self, split: str) -> Source:
    """The source of 'train', 'validation' or 'test'. Close it. Raises `UserError` if the data are missing."""
    return splits.open_split(self.config, self.dataset, split, self.mesh)

  @functools.cached_property
  def marks(self) -> marks.Marks:
    """Which files it trains on, holds out and tests on."""
    held_out = functools.partial(splits.rows_of, self.config, 'validation')
    return marks.of(self.dataset.content, held_out if self.config.validation else None)

  @functools.cached_property
  def schedule(self) -> schedule.Schedule:
    """Which events fall on which step. Raises `UserError`: a run without an end."""
    return schedule.of_config(self.config, self.num_examples)

  @functools.cached_property
  def rate(self) -> optax.Schedule:
    """The learning rate by steps done. Raises `UserError`: decay points or a warm-up outside of the run."""
    return optimizer.learning_rate(self.config, self.schedule.total)

  @functools.cached_property
  def optimizer(self) -> optax.GradientTransformation:
    """What turns gradients into updates."""
    return optimizer.make(self.config, self.rate)

  @property
  def steps(self) -> step.Steps:
    """The functions that compute a training step and an evaluation step."""
    return step.Steps(self.config, self.model, self.dataset)

  def train_call(self, materialize: Materialize, unroll: bool | None = None) -> jax.stages.Wrapped:
    """`call(state, resident, drawn) -> (state, metrics)`, jitted; see `step.compile_train`, `step.Steps.train`."""
    train_step = self.steps.train(self.optimizer, self.rate, unroll)
    return step.compile_train(train_step, materialize, self.mesh, compiler.options(self.mesh))

  def eval_call(self, materialize: Materialize) -> jax.stages.Wrapped:
    """`call(variables, resident, drawn) -> metrics`, jitted."""
    return step.compile_eval(self.steps.evaluate, materialize, self.mesh, compiler.options(self.mesh))

  def eval_batch(self, examples: int) -> int:
    """The global batch of an evaluation of so many examples."""
    return meshes.eval_batch(self.mesh, self.config.eval_batch_size or self.config.batch_size, examples)

  def variables(self) -> dict[str, Any]:
    """The initial {'params', 'batch_stats'} on the host, by the seed."""
    key = randomness.key(self.config.seed, randomness.INIT, 0)
    return initializers.init(self.model, key, self.dataset.image_size)

  def variable_shapes(self) -> dict[str, Any]:
    """{'params', 'batch_stats'} as shapes and types; nothing is drawn."""
    return initializers.shapes(self.model, self.dataset.image_size)

  def state(self, variables: dict[str, Any]) -> state.TrainState:
    """The state before the first step."""
    return state.create(variables, self.optimizer, self.config.ema_decay > 0)

  @property
  def init_from(self) -> str:
    """The workdir of another run whose weights the first step starts from; '': random ones."""
    return self.config.init_from

  def facts(self) -> dict[str, Any]:
    """What has to be the same in all processes."""
    flat = configuration.flatten(self.config)
    return {f'config.{key}': value for key, value in flat.items() if key != 'data_dir'}


def assemble(config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None) -> Run:
  """The run of a configuration on devices (default: all, of all processes) that need not be there.

  The training split is assumed as large as its dataset says; see `of_size`.

  Raises:
    UserError: anything in the configuration that cannot work.
  """
  configuration.check(config)
  dataset = datasets.describe(config)
  config = dataset.resolve(config)
  mesh = meshes.make(devices)
  meshes.check_batch(mesh, config.batch_size, config.accumulate_steps)
  return Run(config, dataset, mesh, builder.of_run(config, mesh.devices.flat[0].platform), dataset.counts['train'])


def of_size(run: Run, num_examples: int) -> Run:
  """The run on a training split that is known now: a part may be held out, or fewer examples prepared than published.

  Raises:
    UserError: a run without an end; decay points or a warm-up outside of it.
  """
  sized = dataclasses.replace(run, num_examples=num_examples)
  assert sized.optimizer  # made now, so that it complains before anything is written
  return sized


def classes_mark(run: Run) -> str:
  """How many classes there are, and a checksum of their names."""
  names = run.dataset.class_names
  return f'{len(names)} classes, {checksums.of_json(names)}'


def data_mark(source: Source) -> str:
  """The size of a split and, where it lies on the device, a checksum of it."""
  mark = 0
  for array in jax.tree.leaves(source.resident):
    mark = zlib.crc32(np.asarray(array.addressable_shards[0].data).tobytes(), mark)
  return f'{source.num_examples} examples, {mark:08x}'
