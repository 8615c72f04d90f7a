"""Metrics on the host: sums divided last, the clock, and where results are written.

`WORKDIR/metrics.jsonl` has one object a line, `WORKDIR/tensorboard` the same numbers for TensorBoard.
"""

import collections
import datetime
import json
import time
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from cmpe_jax.errors import UserError

FILE, CURVES = 'metrics.jsonl', 'tensorboard'


class Means:
  """Adds up (sum, count) pairs and divides last, in Python's 64-bit floats."""

  def __init__(self):
    self._sums: dict[str, float] = collections.defaultdict(float)
    self._counts: dict[str, int] = collections.defaultdict(int)

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


class Clock:
  """Measures the training speed between two log points, without compilation, evaluation and checkpoints."""

  def __init__(self):
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


class Writer:
  """Appends to metrics.jsonl and TensorBoard. Only the first process writes; in the others it does nothing."""

  def __init__(self, workdir: str, step: int):
    """Opens both for a run that has done `step` steps: what lies after that step is dropped.

    Raises:
      UserError: the workdir cannot be written.
    """
    self._path = epath.Path(workdir).expanduser() / FILE
    self._lines: list[dict[str, Any]] = []
    self._board = None
    if jax.process_index():
      return
    from tensorboardX import SummaryWriter  # late: 0.3 s

    try:
      self._lines = [line for line in _lines(self._path) if line['step'] <= step]
      self._rewrite()
      self._board = SummaryWriter(
        str(self._path.parent / CURVES), purge_step=step + 1, flush_secs=10, filename_suffix=f'.{step:09}'
      )
    except OSError as error:
      raise UserError(f'{self._path} cannot be written ({error.strerror}): give another --workdir.') from error

  def write(self, step: int, values: dict[str, float]) -> None:
    """One line, one point on each curve."""
    if self._board is None:
      return
    line = {'step': step} | values
    self._lines.append(line)
    if str(self._path).startswith('gs://'):  # objects cannot be appended to
      self._rewrite()
    else:
      with self._path.open('a') as file:
        file.write(json.dumps(line) + '\n')
    for name, value in values.items():
      self._board.add_scalar(name, value, step)

  def find(self, step: int, prefix: str) -> dict[str, float]:
    """What was written at a step under names that start with `prefix`; {} if nothing."""
    found: dict[str, float] = {}
    for line in self._lines:
      if line['step'] == step:
        found |= {name: value for name, value in line.items() if name.startswith(prefix)}
    return found

  def close(self) -> None:
    """Flushes."""
    if self._board is not None:
      self._board.close()

  def _rewrite(self) -> None:
    temporary = self._path.parent / (FILE + '.new')
    temporary.write_text(''.join(json.dumps(line) + '\n' for line in self._lines))
    temporary.replace(self._path)


def _lines(path: epath.Path) -> Iterator[dict[str, Any]]:
  """The whole lines of a file whose last one may be cut off."""
  if path.exists():
    for text in path.read_text().splitlines():
      try:
        yield json.loads(text)
      except json.JSONDecodeError:
        continue


def progress(step: int, total: int, epoch: float, values: dict[str, float], left: str) -> str:
  """The console line of a log point."""
  return (
    f'step {step:>{len(str(total))}}/{total}  epoch {epoch:6.2f}  loss {values["train/loss"]:.4f}  '
    f'accuracy {values["train/accuracy"]:7.2%}  lr {values["train/learning_rate"]:.3g}  '
    f'{values["train/images_per_second"]:.0f} images/s  waiting for data {values["train/data_wait"]:.0%}  ETA {left}'
  )


def evaluated(step: int, total: int, split: str, values: dict[str, float]) -> str:
  """The console line of an evaluation, and a second one for the moving averages if there are any."""
  lines = []
  for group, note in (('eval', ''), ('eval_ema', '  (moving averages)')):
    if f'{group}/loss' in values:
      lines.append(
        f'step {step:>{len(str(total))}}/{total}  {split}: accuracy {values[f"{group}/accuracy"]:7.2%}  '
        f'top-5 {values[f"{group}/top5"]:7.2%}  loss {values[f"{group}/loss"]:.4f}{note}'
      )
  return '\n'.join(lines)


def table(rows: dict[str, str]) -> str:
  """Names and values in two columns."""
  width = max(map(len, rows))
  return '\n'.join(f'{name:<{width}}  {value}' for name, value in rows.items())


def say(text: str) -> None:
  """Prints in the first process only."""
  if jax.process_index() == 0:
    print(text, flush=True)
