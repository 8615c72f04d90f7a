"""The seam between data and steps: what a split of a dataset gives to training and evaluation."""

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

Batch = dict[str, jax.Array]  # 'image' uint8[B, H, W, 3], 'label' int32[B], 'mask' bool[B], 'index' int32[B]
Arrays = tuple[np.ndarray, np.ndarray]  # images uint8[n, H, W, 3], labels int32[n]


class Call(NamedTuple):
  """A call to the device.

  Attributes:
    first: steps done before.
    steps: that it takes.
    side: of the square images of its batches, in pixels; all images of a resident split have one side anyway.
  """

  first: int
  steps: int
  side: int


class Examples(Protocol):
  """Encoded images by position. Must be picklable."""

  def __len__(self) -> int: ...

  def read(self, position: int) -> tuple[bytes, int, str]:
    """The image file's bytes, its label, and a name for messages."""
    ...

  def take(self, rows: np.ndarray) -> 'Examples':
    """The examples at these positions."""
    ...


class Materialize(Protocol):
  """How a drawn element becomes a batch, inside jit: a pure function, no part of a source's state."""

  def __call__(self, resident: dict[str, jax.Array], drawn: Any) -> Batch: ...


class Source(Protocol):
  """A split, opened: batches whose content follows from the seed and the step alone.

  Attributes:
    num_examples: examples of the split.
    resident: arrays that lie on the devices for the whole run; {}: none.
    materialize: turns an element of `train` (without its leading axis) or `evaluate` into a batch.
  """

  num_examples: int
  resident: dict[str, jax.Array]
  materialize: Materialize

  def train(self, calls: Iterable[Call]) -> Generator[Any]:
    """An element for each call to the device, its arrays with a leading axis of the call's steps."""
    ...

  def evaluate(self, batch_size: int) -> Generator[Any]:
    """Every example once, in order, in global batches; the last one is padded (mask False, index -1)."""
    ...

  def close(self) -> None:
    """Ends what reads in the background. Elements that were handed out stay."""
    ...
