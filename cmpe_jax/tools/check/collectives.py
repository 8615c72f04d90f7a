"""An all-reduce over all devices, checked and timed."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import mesh as meshes

SIZE = 2**24  # float32 numbers: 64 MiB
ROUNDS = 3


def all_reduce() -> dict[str, Any]:
  """Seconds of the fastest of some rounds. Raises `UserError` if a device of this process has a wrong sum."""
  mesh = meshes.make()
  devices = mesh.devices.size
  pattern = np.arange(SIZE, dtype=np.float32) % 5 + 1  # sums of whole numbers are exact

  def row(index: tuple[slice, ...] | None) -> np.ndarray:
    assert index is not None
    return (1 + (index[0].start or 0)) * pattern[None]

  given = jax.make_array_from_callback((devices, SIZE), meshes.batch_sharding(mesh), row)
  call = jax.jit(lambda x: x.sum(0), out_shardings=meshes.replicated(mesh))
  times = []
  for _ in range(1 + ROUNDS):
    began = time.perf_counter()
    result = jax.block_until_ready(call(given))
    times.append(time.perf_counter() - began)
  want = devices * (devices + 1) / 2 * pattern
  wrong = [str(part.device) for part in result.addressable_shards if not jnp.array_equal(part.data, want)]
  if wrong:
    raise UserError(
      f'the sum over {devices} devices is wrong on {", ".join(wrong)}: take the device or its link out of the run '
      '(NCCL_DEBUG=INFO says more on GPUs).'
    )
  return {'devices': devices, 'seconds': min(times[1:])}


def tell(every: list[dict[str, Any]]) -> str:
  """One line."""
  if every[0]['devices'] == 1:
    return 'one device: nothing to send'
  seconds = max(found['seconds'] for found in every)
  rate, size = 4 * SIZE / seconds / 1e9, 4 * SIZE // 2**20
  return (
    f'all-reduce of {size} MiB over {every[0]["devices"]} devices: right, {rate:.2f} GB/s (its size by its seconds)'
  )
