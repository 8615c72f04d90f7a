"""SGD with momentum, its learning-rate schedule, and which parameters decay."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from cmpe_jax.errors import UserError
from cmpe_jax.models import paths
from cmpe_jax.runtime.printing import aligned


def peak_rate(config: ml_collections.ConfigDict) -> float:
  """The learning rate after warm-up: as given, or scaled with the batch (Goyal et al. 2017)."""
  reference = config.learning_rate_batch_size
  return config.learning_rate * (config.batch_size / reference if reference else 1.0)


def learning_rate(config: ml_collections.ConfigDict, total_steps: int) -> optax.Schedule:
  """Learning rate as a function of the number of steps done.

  Linear warm-up from `warmup_start` times the rate over `warmup_epochs`, then 'constant', 'cosine' or 'linear' (to 0 at
  the end) or 'step' (times `decay_factor` at each decay point; points count from the start of the run, whatever the
  warm-up, and are rounded up to whole steps). In float64 for dtype='float64', else in float32.

  Raises:
    UserError: decay points or a warm-up outside of the run; two decay points at one step.
  """
  peak = peak_rate(config)
  part = config.warmup_epochs / config.epochs if config.epochs else 0.0
  warmup = round(min(part, 1.0) * total_steps)
  if warmup and warmup >= total_steps:
    raise UserError(
      f'warmup_epochs={config.warmup_epochs} leaves nothing of epochs={config.epochs}: make the warm-up shorter.'
    )
  if config.schedule == 'constant':
    after = optax.constant_schedule(peak)
  elif config.schedule == 'cosine':
    after = optax.cosine_decay_schedule(peak, max(total_steps - warmup, 1))
  elif config.schedule == 'linear':
    after = optax.linear_schedule(peak, 0.0, max(total_steps - warmup, 1))
  else:
    points = _decay_steps(config, total_steps)
    after = optax.piecewise_constant_schedule(peak, {point - warmup: config.decay_factor for point in points})
  rate = (
    optax.join_schedules([optax.linear_schedule(config.warmup_start * peak, peak, warmup), after], [warmup])
    if warmup
    else after
  )
  if config.dtype == 'float64' and jax.config.jax_enable_x64:  # type: ignore[attr-defined]
    return lambda step: jnp.asarray(rate(jnp.asarray(step, jnp.float64)), jnp.float64)  # Optax divides in float32
  return rate


def _decay_steps(config: ml_collections.ConfigDict, total_steps: int) -> list[int]:
  """The numbers of steps done from which on the rate is lower."""
  fractions = _decay_fractions(config)
  steps = [math.ceil(fraction * total_steps - 1e-6) for fraction in fractions]
  name = 'decay_epochs' if config.decay_epochs else 'decay_fractions'
  for first, (one, other) in enumerate(zip(steps, steps[1:], strict=False)):
    if one == other < total_steps:
      pair = ' and '.join(f'{point:g}' for point in config[name][first : first + 2])
      raise UserError(
        f'{name}: {pair} fall on one step, {one} of {total_steps}. Move them apart, or train for more epochs.'
      )
  return steps


def _decay_fractions(config: ml_collections.ConfigDict) -> list[float]:
  """Decay points as parts of the run, in order, between the end of the warm-up and the end of the run."""
  name = 'decay_epochs' if config.decay_epochs else 'decay_fractions'
  try:
    points = [float(point) for point in config[name]]
  except ValueError as error:
    raise UserError(
      f'{name}={tuple(config[name])} are not numbers: give some, such as (30, 60) or (0.5, 0.75).'
    ) from error
  if not points or not config.epochs:
    return []
  fractions = [point / config.epochs for point in points] if config.decay_epochs else points
  low = config.warmup_epochs / config.epochs
  if sorted(set(fractions)) != fractions or fractions[0] <= low or fractions[-1] >= 1:
    raise UserError(
      f'{name}={tuple(points)} must increase, come after warmup_epochs={config.warmup_epochs} and stay '
      f'below the end of the run ({"1" if name == "decay_fractions" else f"epochs={config.epochs}"}).'
    )
  return fractions


def decay_mask(params: Any, which: str) -> Any:
  """A pytree of bools: which parameters weight decay acts on.

  'kernels': those whose name is 'kernel' (convolutions and dense layers, the gate's included), so neither
  biases nor scales of normalizations. 'all': every one, as the authors' default.
  """
  if which == 'all':
    return jax.tree.map(lambda _: True, params)
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'kernel', params)


def frozen_mask(params: Any, stages: int) -> Any:
  """A pytree of bools: the parameters of the stem and of the first `stages` stages; with 0 none."""
  return jax.tree_util.tree_map_with_path(lambda path, _: paths.is_frozen(path[0].key, stages), params)


def make(config: ml_collections.ConfigDict, rate: optax.Schedule) -> optax.GradientTransformation:
  """Clip by global norm, add `weight_decay` times the parameter, then SGD with (Nesterov) momentum.

  What `freeze` names is not changed, not by weight decay either.
  """
  parts = [optax.clip_by_global_norm(config.grad_clip_norm)] if config.grad_clip_norm else []
  if config.weight_decay:
    parts.append(
      optax.add_decayed_weights(config.weight_decay, lambda params: decay_mask(params, config.decay_parameters))
    )
  momentum = config.momentum or None
  parts.append(optax.sgd(rate, momentum=momentum, nesterov=config.nesterov and momentum is not None))
  if config.freeze:
    parts.append(optax.masked(optax.set_to_zero(), lambda params: frozen_mask(params, config.freeze)))
  return optax.chain(*parts)


def table(config: ml_collections.ConfigDict, params: Any) -> str:
  """What decays, what does not and what is frozen: group, tensors, parameters."""
  decays, frozen = decay_mask(params, config.decay_parameters), frozen_mask(params, config.freeze)
  groups = jax.tree.map(lambda d, f: 'frozen' if f else f'{config.weight_decay:g}' if d else 'none', decays, frozen)
  pairs = list(zip(jax.tree.leaves(params), jax.tree.leaves(groups), strict=True))
  lines = [['weight decay', 'tensors', 'parameters']]
  for name in (f'{config.weight_decay:g}', 'none', *(['frozen'] if config.freeze else [])):
    sizes = [x.size for x, group in pairs if group == name]
    lines.append([name, f'{len(sizes)}', f'{sum(sizes):,}'])
  return aligned(lines)
