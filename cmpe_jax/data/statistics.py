"""Mean and deviation of the pixels that a run trains on, exact: sums of whole numbers, divided last."""

import math
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from cmpe_jax.data.source import Source
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import processes

Sums = list[list[int]]  # of the pixels, their values and their squares, each for three channels
Triple = tuple[float, float, float]
_EVERY = 5.0  # seconds between two lines
_ROWS = 256  # images at a time


def measure(source: Source, batch_size: int, say: Callable[[str], None]) -> tuple[Triple, Triple]:
  """Mean and standard deviation of red, green and blue on the scale 0..1, over all images as an evaluation shows them.

  All processes get the same numbers, whatever each of them reads.

  Raises:
    UserError: an image cannot be read, or a channel has one value everywhere.
  """
  if source.resident:
    parts = [_add(_chunks(source.resident['image']), source.num_examples, say)]
  else:
    read = processes.together('pixels', lambda: _add(_own_rows(source, batch_size), source.num_examples, say))
    parts = processes.share('sums of pixels', read)
  return of_sums(parts)


def of_sums(parts: Sequence[Sums]) -> tuple[Triple, Triple]:
  """Mean and deviation from the sums of several parts. Raises `UserError`: a channel has one value everywhere."""
  means, deviations = [], []
  for channel in range(3):
    count, total, squares = (sum(part[kind][channel] for part in parts) for kind in range(3))
    means.append(total / (255 * count))
    deviations.append(math.sqrt(count * squares - total**2) / (255 * count))
  if min(deviations) == 0:
    raise UserError(
      f'the training images have deviations of {tuple(deviations)}, and nothing can be divided by 0. Set '
      "pixel_statistics='dataset'."
    )
  return (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])


def _add(parts: Iterator[np.ndarray], images: int, say: Callable[[str], None]) -> Sums:
  """The sums over arrays uint8[n, H, W, 3]."""
  found, done, last = np.zeros((3, 3), np.int64), 0, time.monotonic()
  for part in parts:
    pixels = part.reshape(-1, 3)
    found[0] += len(pixels)
    found[1] += pixels.sum(0, dtype=np.int64)
    found[2] += np.square(pixels, dtype=np.uint16).sum(0, dtype=np.int64)
    done += len(part)
    if time.monotonic() - last > _EVERY:
      say(f'measuring the training images: {done:,} of {images:,}')
      last = time.monotonic()
  return found.tolist()


def _chunks(images: jax.Array) -> Iterator[np.ndarray]:
  held = np.asarray(images.addressable_data(0))
  yield from (held[first : first + _ROWS] for first in range(0, len(held), _ROWS))


def _own_rows(source: Source, batch_size: int) -> Iterator[np.ndarray]:
  """The images that this process reads, once each."""
  for batch in source.evaluate(batch_size):
    for images, mask in zip(batch['image'].addressable_shards, batch['mask'].addressable_shards, strict=True):
      yield np.asarray(images.data)[np.asarray(mask.data)]
