"""What training changes from step to step, and what a checkpoint holds."""

from typing import Any

import flax
import jax
import numpy as np
import optax


@flax.struct.dataclass
class TrainState:
  """The state after `step` steps.

  Attributes:
    step: int32[], steps done.
    params: trained parameters, float32 (float64 for dtype='float64').
    batch_stats: running means and variances of the batch normalizations.
    opt_state: the optimizer's.
    ema: {'params': ..., 'batch_stats': ...}, their exponential moving averages; {} when not kept.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  ema: Any

  @property
  def variables(self) -> dict[str, Any]:
    """What `model.apply` takes."""
    return {'params': self.params, 'batch_stats': self.batch_stats}


def create(variables: dict[str, Any], optimizer: optax.GradientTransformation, ema: bool) -> TrainState:
  """The state before the first step, from initial variables {'params', 'batch_stats'}.

  What is new in it lies on the host. SGD's momentum and counters begin at zero: `optimizer.init` would compile a
  program of zeros for each shape of a parameter to say so, a second in all.
  """
  params, batch_stats = variables['params'], variables['batch_stats']
  like = jax.eval_shape(optimizer.init, params)
  return TrainState(
    step=np.zeros((), np.int32),  # type: ignore[arg-type]  # on the devices once it is replicated
    params=params,
    batch_stats=batch_stats,
    opt_state=jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like),
    ema={'params': params, 'batch_stats': batch_stats} if ema else {},
  )


def count(params: Any) -> int:
  """Number of scalars in a pytree."""
  return sum(x.size for x in jax.tree.leaves(params))
