"""Traces of some steps, for TensorBoard's profile page or Perfetto."""

import tempfile
from pathlib import Path

import jax

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import places
from cmpe_jax.runtime.mirror import Mirror
from cmpe_jax.runtime.printing import say


def parse(text: str) -> tuple[int, int]:
  """'20:25' gives (20, 25), first and last step. Raises `UserError` for anything else."""
  first, _, last = text.partition(':')
  if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
    raise UserError(f'--profile={text} is not FIRST:LAST: give two steps, such as --profile=20:25.')
  return int(first), int(last)


class Profiler:
  """Traces the steps from first to last into `WORKDIR/profile`, for TensorBoard's profile page or Perfetto."""

  def __init__(self, workdir: str, steps: tuple[int, int] | None):
    self._target, self._steps, self._on = places.place(workdir) / 'profile', steps, False
    # JAX writes a trace to files only; what is for a bucket is copied at the end.
    self._temporary = tempfile.TemporaryDirectory() if steps and places.is_bucket(workdir) else None

  def __enter__(self) -> 'Profiler':
    return self

  def __exit__(self, *error: object) -> None:
    self.end()
    if self._temporary:
      self._temporary.cleanup()

  def before(self, first: int, count: int) -> None:
    """Starts the trace if the call holds its first step."""
    if self._steps and first < self._steps[0] <= first + count:
      jax.profiler.start_trace(self._temporary.name if self._temporary else str(self._target))
      self._on = True

  def after(self, done: int) -> bool:
    """Whether the trace has all its steps: wait for the device, then call `end`."""
    return self._on and self._steps is not None and done >= self._steps[1]

  def end(self) -> None:
    """Stops the trace if there is one."""
    if self._on:
      jax.profiler.stop_trace()
      self._on = False
      if self._temporary:
        Mirror(Path(self._temporary.name), self._target).close()
      say(f'profile written to {self._target}')
