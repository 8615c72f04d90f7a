"""How fast a run is, and how long it will take."""

import datetime
import time


class Clock:
  """Measures the training speed from one lap to the next, without compilation, evaluation and checkpoints."""

  def __init__(self) -> None:
    self._began = self._last = time.perf_counter()
    self._steps = 0
    self._compiling = self._paused = self._waited = 0.0

  def waited(self, seconds: float) -> None:
    """Time that the loop stood still for data."""
    self._waited += seconds

  def paused(self, seconds: float, compiling: bool = False) -> None:
    """Time that is not training; compilation is left out of the forecast as well."""
    self._paused += seconds
    self._compiling += seconds * compiling

  def lap(self, steps: int, batch_size: int) -> dict[str, float]:
    """`train/images_per_second` and `train/data_wait` (part of the time, 0..1) of the last `steps` steps."""
    now = time.perf_counter()
    seconds = max(now - self._last - self._paused, 1e-9)
    lap = {
      'train/images_per_second': steps * batch_size / seconds,
      'train/data_wait': min(self._waited / seconds, 1.0),
    }
    self._last, self._paused, self._waited = now, 0.0, 0.0
    self._steps += steps
    return lap

  def left(self, steps: int) -> str:
    """How long `steps` more steps will take, evaluations included, as 'h:mm:ss'."""
    spent = time.perf_counter() - self._began - self._compiling
    return str(datetime.timedelta(seconds=round(steps * spent / max(self._steps, 1))))
