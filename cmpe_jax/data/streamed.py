"""Splits that are too large to lie on the device: batches are read in the background and sent ahead of time."""

import collections
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from absl import flags

from cmpe_jax.data import decoder, image, order, reader
from cmpe_jax.data.source import Batch, Call, Examples, Materialize
from cmpe_jax.errors import Interrupted
from cmpe_jax.runtime import mesh as meshes

AHEAD = 2  # batches that are on the device, or on the way, before they are asked for
MAX_THREADS = 16  # by default: each holds a batch, and more of them only wait for Python's lock


def materialize(resident: dict[str, jax.Array], drawn: Batch) -> Batch:
  """A drawn element is the batch itself."""
  del resident
  return drawn


class Streamed:
  """A split that is read from encoded images. Each process reads only the rows of its own devices.

  Attributes:
    num_examples: examples of the split.
    resident: nothing lies on the device for the whole run.
    materialize: see `materialize`.
  """

  def __init__(
    self,
    examples: Examples,
    image_size: int,
    is_cropped: bool,
    seed: int,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    threads: int = 0,
    processes: int = 0,
    interpolations: tuple[str, str] = ('four_pixels', 'bilinear'),
    eval_crop: float = image.CENTRE,
    is_upright: bool = False,
  ):
    self.num_examples = len(examples)
    self.resident: dict[str, jax.Array] = {}
    self.materialize: Materialize = materialize
    self._examples, self._image_size, self._is_cropped = examples, image_size, is_cropped
    self._seed, self._batch_size, self._mesh = seed, batch_size, mesh
    self._threads = threads or (1 if processes else min(os.cpu_count() or 1, MAX_THREADS))
    self._processes = processes
    self._crops = (*interpolations, eval_crop, is_upright)
    self._running: list[Any] = []

  def train(self, calls: Iterable[Call]) -> Generator[Batch]:
    """Batches with leading axis `count` for each call."""
    own = self._reader(self._batch_size)
    return self._send(list(calls), own, own.train, leading=1)

  def evaluate(self, batch_size: int) -> Generator[Batch]:
    """Every example once, in order; the last batch is padded (mask False, index -1)."""
    own = self._reader(batch_size)
    return self._send(order.passes(batch_size, self.num_examples), own, own.evaluate, leading=0)

  def close(self) -> None:
    """Stops the threads and processes of all iterators."""
    while self._running:
      self._running.pop().close()

  def _reader(self, batch_size: int) -> reader.Reader:
    rows = own_rows(meshes.batch_sharding(self._mesh), batch_size)
    return reader.Reader(self._examples, self._seed, self._image_size, self._is_cropped, batch_size, rows, *self._crops)

  def _send(
    self, elements: list[Any], own: reader.Reader, read: Callable[[Any], Any], leading: int
  ) -> Generator[Batch]:
    if self._processes and not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()  # Grain's workers ask for absl's flags, which notebooks never parse
    if self._is_cropped and not self._processes:
      decoder.load()
    batches = reader.ahead(elements, read, self._threads, self._processes)
    self._running.append(batches)
    sharding = meshes.batch_sharding(self._mesh, leading)
    sent: collections.deque[Batch] = collections.deque()
    try:
      for batch in _alive(batches, self._processes):
        if self._processes:  # free the workers' shared memory at once: JAX may keep a CPU array where it is
          batch = {key: np.array(part) for key, part in batch.items()}
        sent.append({key: put(part, own.rows, sharding, own.batch_size, leading) for key, part in batch.items()})
        if len(sent) > AHEAD:
          yield sent.popleft()
      while sent:
        yield sent.popleft()
    finally:
      if batches in self._running:
        self._running.remove(batches)
        batches.close()


def _alive(batches: Iterator[Any], processes: int) -> Iterator[Any]:
  """The batches, or `Interrupted` where a reading process was killed, as the kernel does when memory is short."""
  try:
    if processes:
      yield from reader.first(batches)
    yield from batches
  except RuntimeError as error:
    if 'terminated unexpectedly' not in str(error):
      raise
    raise Interrupted(
      'a process that reads images was killed, as happens when memory is short, or /dev/shm (64 MiB in many '
      'containers), through which batches are sent: the same command goes on from the last checkpoint; lower '
      'input_processes, or enlarge /dev/shm, if it happens again.'
    ) from error


def own_rows(sharding: jax.sharding.Sharding, batch_size: int) -> np.ndarray:
  """The rows of the global batch that lie on this process's devices, ascending: int64[rows]."""
  indices = sharding.addressable_devices_indices_map((batch_size,)).values()
  slices = {index[0].indices(batch_size) for index in indices if index}
  return np.concatenate([np.arange(*bounds) for bounds in sorted(slices)])


def put(
  part: np.ndarray, rows: np.ndarray, sharding: jax.sharding.NamedSharding, batch_size: int, leading: int
) -> jax.Array:
  """A global array from the part that this process read: axis `leading` of `part` holds `rows` of the global batch."""
  shape = (*part.shape[:leading], batch_size, *part.shape[leading + 1 :])

  def piece(index: tuple[slice, ...] | None) -> np.ndarray:
    assert index is not None
    start, stop, _ = index[leading].indices(batch_size)
    offset = int(np.searchsorted(rows, start))
    return part[(slice(None),) * leading + (slice(offset, offset + stop - start),)]

  return jax.make_array_from_callback(shape, sharding, piece)
