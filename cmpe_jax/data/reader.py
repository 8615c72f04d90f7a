"""Reads the rows of batches that one process owns, from encoded images: NumPy only, so that workers start quickly.

There is no iterator state: an element is a call (first step, number of steps, side of the images), and what it holds
follows from the seed. Grain reads elements ahead, in threads or in processes, and returns them in order.
"""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any

import grain
import numpy as np

from cmpe_jax.data import image, order
from cmpe_jax.data.source import Call, Examples
from cmpe_jax.runtime.watch import SIGNALS

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reader:
  """Turns examples into batches of uint8 images.

  Attributes:
    examples: what to read.
    seed: of the order and of the crops.
    image_size: side of the images in an evaluation.
    is_cropped: whether images are cut by random-resized crops (training) and centre crops (evaluation), both from the
      original file; else the largest centred square is resized.
    batch_size: the global one.
    rows: the positions in the global batch that this process reads.
    train_interpolation: of random-resized crops, see `image.centre_crop`.
    eval_interpolation: of centre crops.
    eval_crop: part of the shorter side that these show.
    is_upright: whether images are turned as their EXIF blocks say.
  """

  examples: Examples
  seed: int
  image_size: int
  is_cropped: bool
  batch_size: int
  rows: np.ndarray
  train_interpolation: str = 'four_pixels'
  eval_interpolation: str = 'bilinear'
  eval_crop: float = image.CENTRE
  is_upright: bool = False

  def train(self, call: Call) -> Batch:
    """The own rows of steps first .. first + count - 1: arrays of shape [count, rows, ...]."""
    first, count, side = call
    steps = [self._train_step(step, side) for step in range(first, first + count)]
    return {key: np.stack([step[key] for step in steps]) for key in steps[0]} if count > 1 else _expand(steps[0])

  def _train_step(self, step: int, side: int) -> Batch:
    drawn, epochs = order.draw(self.seed, step, self.batch_size, len(self.examples))
    drawn, epochs = drawn[self.rows], epochs[self.rows]
    if not self.is_cropped:
      return self._batch(drawn, side, lambda row, *example: self._square(side, *example))
    return self._batch(
      drawn, side, lambda row, *example: self._random(int(epochs[row]), int(drawn[row]), side, *example)
    )

  def evaluate(self, drawn: np.ndarray) -> Batch:
    """The own rows of the global batch int32[batch_size] of positions, without randomness; -1 is padding."""
    return self._batch(drawn[self.rows], self.image_size, lambda row, *example: self._evaluated(*example))

  def _batch(self, drawn: np.ndarray, side: int, crop: Callable[..., np.ndarray]) -> Batch:
    size = len(drawn)
    images = np.zeros((size, side, side, 3), np.uint8)
    labels = np.zeros(size, np.int32)
    for row, position in enumerate(drawn.tolist()):
      if position >= 0:
        data, labels[row], name = self.examples.read(position)
        images[row] = crop(row, data, name)
    return {'image': images, 'label': labels, 'mask': drawn >= 0, 'index': drawn}

  def _random(self, epoch: int, example: int, side: int, data: bytes, name: str) -> np.ndarray:
    generator = order.augmentation(self.seed, epoch, example)
    return image.random_crop(data, name, side, generator, self.train_interpolation, self.is_upright)

  def _evaluated(self, data: bytes, name: str) -> np.ndarray:
    how = (self.is_cropped, self.eval_interpolation, self.eval_crop, self.is_upright)
    return image.evaluated(data, name, self.image_size, *how)

  def _square(self, side: int, data: bytes, name: str) -> np.ndarray:
    return image.resize(image.decode(data, name, self.is_upright), side)


def ahead(elements: Sequence[Any], read: Callable[[Any], Batch], threads: int, processes: int) -> Any:
  """An iterator of `read(element)` in order, made ahead of time in the background; `close()` stops it.

  Args:
    elements: what to read, picklable if there are processes.
    read: makes one batch of one element, in one thread.
    threads: of this process, or of each worker process.
    processes: worker processes; 0: threads of this process.
  """
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
  batches = grain.MapDataset.source(elements).map(read).to_iter_dataset(options)
  if processes:
    batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=processes), _begin_worker)
  return iter(batches)


def first(batches: Iterator[Batch]) -> Iterator[Batch]:
  """The first batch of `ahead` with processes, if there is one; the processes begin meanwhile.

  Ctrl-C goes to them as well, and would end them with tracebacks before `_begin_worker` is imported. So they inherit
  a thread's mask of signals, which is not this one's: where there is no other, no signal would be heard.
  """
  _begin_tracker()
  block = functools.partial(signal.pthread_sigmask, signal.SIG_BLOCK, SIGNALS)
  with concurrent.futures.ThreadPoolExecutor(1, initializer=block) as pool:
    batch = pool.submit(next, batches, None).result()
  if batch is not None:
    yield batch


def _begin_tracker() -> None:
  """The standard library's process that frees what a process that ends at once leaves, without its warning of that."""
  before = os.environ.get('PYTHONWARNINGS')
  os.environ['PYTHONWARNINGS'] = 'ignore:resource_tracker'
  try:
    resource_tracker.ensure_running()
  finally:
    os.environ.pop('PYTHONWARNINGS')
    if before is not None:
      os.environ['PYTHONWARNINGS'] = before


def _begin_worker(worker: int, workers: int) -> None:
  """Ctrl-C and SIGTERM to the whole group are the training process's affair, which saves and then ends its workers.

  A worker whose training process was killed ends too.
  """
  del worker, workers
  for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
  parent = multiprocessing.parent_process()
  assert parent

  def watch() -> None:
    parent.join()  # knows also of one that was killed before this worker had begun
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def _expand(batch: Batch) -> Batch:
  return {key: value[None] for key, value in batch.items()}
