"""Devices: one mesh axis, `data`; how arrays lie on it."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cmpe_jax.errors import UserError


def make(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """The devices (default: all, of all processes) in one axis, 'data'."""
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh((len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices)


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
  """The batch axis over 'data', after `leading` axes that every device has in full."""
  return NamedSharding(mesh, P(*(None,) * leading, 'data'))


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, P())


def replicate(tree: Any, mesh: Mesh) -> Any:
  """Copies a pytree of host arrays, equal in all processes, onto every device."""
  sharding = replicated(mesh)

  def put(x: Any) -> jax.Array:
    array = np.asarray(x)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

  return jax.tree.map(put, tree)


def check_batch(mesh: Mesh, batch_size: int, accumulate_steps: int = 1) -> None:
  """Raises `UserError` unless each device gets the same number of rows of each micro-batch."""
  devices = mesh.devices.size
  parts = devices * accumulate_steps
  if batch_size % parts:
    why = f'{devices} devices' + (f' x accumulate_steps={accumulate_steps}' if accumulate_steps > 1 else '')
    near = f'{batch_size // parts * parts or parts} or {(batch_size // parts + 1) * parts}'
    raise UserError(f'batch_size={batch_size} does not divide by {why}: set it to {near}, for example.')


def eval_batch(mesh: Mesh, batch_size: int, examples: int) -> int:
  """The evaluation batch: no larger than the split needs, rounded up to a multiple of the devices."""
  devices = mesh.devices.size
  return -(-min(batch_size, examples) // devices) * devices
