"""Metrics on their way from the device: read late, added up, divided last."""

import collections
from collections.abc import Iterator, Mapping
from typing import Any

import jax


class Means:
  """Adds up (sum, count) pairs and divides last, in Python's 64-bit floats."""

  def __init__(self, begun: Mapping[str, tuple[float, int]] | None = None) -> None:
    """Goes on from the `sums` of another one, to the bit."""
    self._sums: dict[str, float] = collections.defaultdict(float)
    self._counts: dict[str, int] = collections.defaultdict(int)
    for name, (total, count) in (begun or {}).items():
      self._sums[name], self._counts[name] = total, count

  @property
  def sums(self) -> dict[str, tuple[float, int]]:
    """(sum, count) by name."""
    return {name: (total, self._counts[name]) for name, total in self._sums.items()}

  def add(self, metrics: dict[str, tuple[Any, Any]]) -> None:
    """Adds the pairs of one batch."""
    for name, (total, count) in metrics.items():
      self._sums[name] += float(total)
      self._counts[name] += int(count)

  def means(self) -> dict[str, float]:
    """sum / count by name; nan where nothing was counted."""
    return {name: self._sums[name] / count if count else float('nan') for name, count in self._counts.items()}

  @property
  def count(self) -> int:
    """Examples added."""
    return max(self._counts.values(), default=0)


class Late:
  """Metrics still on the device, in order. They are read `behind` calls later, so that the device has work meanwhile
  and the host cannot run further ahead than that."""

  def __init__(self, behind: int = 3):
    self._behind = behind
    self._queue: collections.deque[tuple[Any, Any]] = collections.deque()

  def put(self, tag: Any, metrics: Any) -> Iterator[tuple[Any, Any]]:
    """Adds the metrics (jax arrays) of a call; yields those that are due, as (tag, numpy)."""
    self._queue.append((tag, metrics))
    yield from self._read(self._behind)

  def rest(self) -> Iterator[tuple[Any, Any]]:
    """Waits for the device and yields all that is left."""
    yield from self._read(0)

  def _read(self, keep: int) -> Iterator[tuple[Any, Any]]:
    while len(self._queue) > keep:
      tag, metrics = self._queue.popleft()
      yield tag, jax.device_get(metrics)
