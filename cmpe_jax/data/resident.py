"""Splits that lie on the device as a whole: a batch is drawn from them by index, inside jit."""

from collections.abc import Generator, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from cmpe_jax.data import order
from cmpe_jax.data.source import Arrays, Batch, Call, Materialize
from cmpe_jax.runtime import mesh as meshes


def materialize(resident: dict[str, jax.Array], drawn: jax.Array) -> Batch:
  """The batch of the drawn indices, int32[B]; -1 is padding. Pure; traced inside jit."""
  mask = drawn >= 0
  rows = jnp.where(mask, drawn, 0)
  return {'image': resident['image'][rows], 'label': resident['label'][rows], 'mask': mask, 'index': drawn}


class Resident:
  """A split whose images lie on every device.

  Attributes:
    num_examples: examples of the split.
    resident: {'image': uint8[num_examples, H, W, 3], 'label': int32[num_examples]}, replicated over the mesh.
    materialize: see `materialize`.
  """

  def __init__(self, arrays: Arrays, seed: int, batch_size: int, mesh: jax.sharding.Mesh):
    images, labels = arrays
    self.num_examples = len(labels)
    self.resident: dict[str, jax.Array] = meshes.replicate({'image': images, 'label': labels}, mesh)
    self.materialize: Materialize = materialize
    self._seed, self._batch_size, self._mesh = seed, batch_size, mesh

  def train(self, calls: Iterable[Call]) -> Generator[jax.Array]:
    """Indices int32[count, batch_size] for each call."""
    sharding = meshes.batch_sharding(self._mesh, leading=1)
    for first, count, _ in calls:
      steps = range(first, first + count)
      rows = [order.draw(self._seed, step, self._batch_size, self.num_examples)[0] for step in steps]
      yield _put(np.stack(rows), sharding)

  def evaluate(self, batch_size: int) -> Generator[jax.Array]:
    """Indices int32[batch_size]: every example once, in order; the last batch is padded with -1."""
    sharding = meshes.batch_sharding(self._mesh)
    for indices in order.passes(batch_size, self.num_examples):
      yield _put(indices, sharding)

  def close(self) -> None:
    """Frees the arrays on the devices; nothing runs in the background."""
    self.resident = {}


def _put(rows: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
  """A global array from the same host array in every process."""
  return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])
