"""Weights from elsewhere as the first checkpoint of a run."""

import contextlib
from typing import Any

import jax
import ml_collections
import numpy as np

from cmpe_jax.errors import UserError
from cmpe_jax.models.precision import at_least_float32
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training import optimizer, state
from cmpe_jax.training.checkpoint import Checkpoints


def write(workdir: str, config: ml_collections.ConfigDict, variables: dict[str, Any]) -> None:
  """Writes {'params', 'batch_stats'} as the checkpoint of step 0; training goes on from it, eval and tools read it.

  Args:
    workdir: of the run that will go on.
    config: its (resolved) configuration.
    variables: on the host; they are written in the type that the run restores.

  Raises:
    UserError: the workdir has a checkpoint already, or cannot be written.
  """
  updates = optimizer.make(config, lambda step: config.learning_rate)
  with contextlib.closing(Checkpoints(workdir, config.keep_checkpoints)) as checkpoints:
    if checkpoints.steps():
      raise UserError(f'workdir={str(workdir)!r} has checkpoints already: give a new one.')
    mesh = meshes.make(jax.local_devices()[:1])
    variables = jax.tree.map(lambda x: np.asarray(x, at_least_float32(config.dtype)), variables)
    first = state.create(variables, updates, ema=config.ema_decay > 0)
    checkpoints.save(meshes.replicate(first, mesh), config)
