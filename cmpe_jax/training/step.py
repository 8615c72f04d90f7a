"""One training step and one evaluation step: pure functions of (state, batch), and how they are compiled.

A batch is {'image': uint8[B, H, W, 3], 'label': int32[B], 'mask': bool[B], 'index': int32[B]}. Metrics are
pairs (sum, count), so that they add up over steps and batches and are divided last.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh

from cmpe_jax.data import augment
from cmpe_jax.data.datasets.dataset import Dataset
from cmpe_jax.data.source import Batch, Materialize
from cmpe_jax.models.precision import at_least_float32
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training import objective
from cmpe_jax.training.randomness import AUGMENT, DROPOUT, MIXUP, key
from cmpe_jax.training.state import TrainState

State = tuple[TrainState, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Steps:
  """The steps of a (resolved) configuration.

  Attributes:
    config: its keys that training and evaluation depend on.
    model: the network.
    dataset: how its images are augmented and normalized.
  """

  config: ml_collections.ConfigDict
  model: nn.Module
  dataset: Dataset

  @property
  def dtype(self) -> jnp.dtype:
    """Type of normalized images, loss and accumulated gradients: float32 at least."""
    return at_least_float32(self.config.dtype)

  def train(
    self, optimizer: optax.GradientTransformation, rate: optax.Schedule, unroll: bool | None = None
  ) -> Callable[[TrainState, Batch], State]:
    """`train_step(state, batch) -> (state, metrics)`.

    With accumulate_steps = A > 1 the gradient is the mean over A micro-batches (rows i with i % A == a, so that no
    row changes its device): augmentation, mixup partner and batch normalization see one micro-batch at a time, and
    the running statistics move A times a step. They run in a loop, or one after the other with `unroll` (None: on CPUs,
    where a convolution inside a loop is many times slower).

    Besides the pairs, the metrics have 'finite' (loss and gradient are) and 'learning_rate' (the one used).
    """
    parts = self.config.accumulate_steps

    def train_step(state: TrainState, batch: Batch) -> State:
      total = jnp.maximum(batch['mask'].sum(), 1).astype(self.dtype)

      def micro(batch_stats: Any, a: int | jax.Array) -> tuple[Any, Any]:
        part = batch if parts == 1 else jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:])[:, a], batch)
        loss = jax.value_and_grad(self._loss(state.step, a), has_aux=True)
        (_, (batch_stats, metrics)), gradients = loss(state.params, batch_stats, part, total)
        return batch_stats, (gradients, metrics)

      batch_stats, (gradients, metrics) = _accumulate(micro, state.batch_stats, parts, unroll)
      updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
      params = optax.apply_updates(state.params, updates)
      finite = jnp.isfinite(metrics['loss'][0]) & jnp.isfinite(optax.tree.norm(gradients))
      used = jnp.asarray(rate(state.step))
      ema = _average(state, {'params': params, 'batch_stats': batch_stats}, self.config.ema_decay)
      state = TrainState(step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema)
      return state, metrics | {'finite': finite, 'learning_rate': used}

    return train_step

  def _loss(self, step: jax.Array, part: int | jax.Array) -> Callable[..., Any]:
    """(params, batch_stats, batch, total) -> (sum of losses / total, (new statistics, metrics))."""
    config, model = self.config, self.model

    def loss(params: Any, batch_stats: Any, batch: Batch, total: jax.Array) -> tuple[jax.Array, Any]:
      images = augment.train(batch, key(config.seed, AUGMENT, step), self.dataset, self.dtype)
      target = objective.targets(batch['label'], model.num_classes, self.dtype)
      if config.mixup_alpha:
        weight = objective.mix_weight(key(config.seed, MIXUP, step), config.mixup_alpha)
        images, target = objective.mix(images, weight), objective.mix(target, weight)
      logits, updated = model.apply(
        {'params': params, 'batch_stats': batch_stats},
        images,
        train=True,
        mutable=['batch_stats'],
        rngs={'dropout': jax.random.fold_in(key(config.seed, DROPOUT, step), part)},
      )
      mask = batch['mask']
      losses = jnp.where(mask, objective.cross_entropy(logits, target, config.label_smoothing), 0)
      hits = jnp.where(mask, objective.correct(logits, target), 0)
      metrics = {'loss': (losses.sum(), mask.sum()), 'accuracy': (hits.sum(), mask.sum())}
      return losses.sum() / total, (updated['batch_stats'], metrics)

    return loss

  def logits(self, variables: dict[str, Any], batch: Batch) -> jax.Array:
    """The logits [B, classes] of an evaluation."""
    return logits(self.config, self.model, variables, augment.evaluate(batch, self.dataset, self.dtype))

  def evaluate(self, variables: dict[str, Any], batch: Batch) -> dict[str, Any]:
    """The metrics of a batch: sums over the rows whose mask is set."""
    logits = self.logits(variables, batch)
    mask, labels = batch['mask'], batch['label']
    target = objective.targets(labels, self.model.num_classes, self.dtype)
    rows = {
      'loss': objective.cross_entropy(logits, target),
      'accuracy': objective.correct(logits, target),
      'top5': objective.in_top(logits, labels, min(5, self.model.num_classes)),
    }
    return {name: (jnp.where(mask, row, 0).sum(), mask.sum()) for name, row in rows.items()}


def logits(
  config: ml_collections.ConfigDict, model: nn.Module, variables: dict[str, Any], images: jax.Array
) -> jax.Array:
  """What a trained network says of normalized images [B, H, W, 3]: [B, classes]; with `eval_flip` a mean of two.

  The mean of both images' logits ranks the classes as their sum does, which ffcv takes, and has a loss that can be
  compared with that of one image.
  """
  found: Any = model.apply(variables, images, train=False)
  if config.eval_flip:
    mirrored: Any = model.apply(variables, images[:, :, ::-1], train=False)
    found = (found + mirrored) / 2
  assert isinstance(found, jax.Array)
  return found


def _accumulate(micro: Callable[..., Any], batch_stats: Any, parts: int, unroll: bool | None) -> tuple[Any, Any]:
  """Runs `micro` over the parts, statistics in sequence; adds up gradients and metrics."""
  if parts == 1:
    return micro(batch_stats, 0)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(micro, batch_stats, 0)[1])

  def body(carry: Any, a: jax.Array) -> tuple[Any, None]:
    stats, added = micro(carry[0], a)
    return (stats, jax.tree.map(jnp.add, carry[1], added)), None

  unroll = jax.default_backend() == 'cpu' if unroll is None else unroll
  return jax.lax.scan(body, (batch_stats, zeros), jnp.arange(parts), unroll=parts if unroll else 1)[0]


def _average(state: TrainState, new: dict[str, Any], decay: float) -> dict[str, Any]:
  """ema <- d ema + (1 - d) new, with d = min(decay, (1 + t) / (10 + t)): early averages forget the start."""
  if not decay:
    return {}

  def average(old: jax.Array, value: jax.Array) -> jax.Array:
    t = state.step.astype(value.dtype)
    d = jnp.minimum(decay, (1 + t) / (10 + t)).astype(value.dtype)
    return d * old + (1 - d) * value

  return jax.tree.map(average, state.ema, new)


def compile_train(
  train_step: Callable[..., State], materialize: Materialize, mesh: Mesh, options: dict[str, str] | None = None
) -> jax.stages.Wrapped:
  """`call(state, resident, drawn) -> (state, metrics)`, jitted with compiler `options`, the state donated.

  `drawn` has a leading axis of `count` steps, and so have the metrics. One step is called straight; more run inside
  `lax.scan`, with the same results up to the rounding of another compilation: losses equal to 1e-10 in float64, and in
  float32 to 1e-5 of their size in the first steps.
  """

  def one(resident: dict[str, jax.Array], state: TrainState, drawn: Any) -> State:
    return train_step(state, _shard(materialize(resident, drawn), mesh))

  def call(state: TrainState, resident: dict[str, jax.Array], drawn: Any) -> State:
    if jax.tree.leaves(drawn)[0].shape[0] == 1:
      state, metrics = one(resident, state, jax.tree.map(lambda x: x[0], drawn))
      return state, jax.tree.map(lambda x: x[None], metrics)
    return jax.lax.scan(lambda carry, x: one(resident, carry, x), state, drawn)

  return jax.jit(call, donate_argnums=0, out_shardings=meshes.replicated(mesh), compiler_options=options)


def compile_eval(
  eval_step: Callable[..., Any], materialize: Materialize, mesh: Mesh, options: dict[str, str] | None = None
) -> jax.stages.Wrapped:
  """`call(variables, resident, drawn) -> metrics`, jitted with compiler `options`."""

  def call(variables: dict[str, Any], resident: dict[str, jax.Array], drawn: Any) -> dict[str, Any]:
    return eval_step(variables, _shard(materialize(resident, drawn), mesh))

  return jax.jit(call, out_shardings=meshes.replicated(mesh), compiler_options=options)


def _shard(batch: dict[str, jax.Array], mesh: Mesh) -> dict[str, jax.Array]:
  return jax.lax.with_sharding_constraint(batch, meshes.batch_sharding(mesh))
