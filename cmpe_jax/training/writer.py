"""Where results are written: `WORKDIR/metrics.jsonl`, one object a line, and the same numbers for TensorBoard."""

import json
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from cmpe_jax.errors import UserError

FILE, CURVES = 'metrics.jsonl', 'tensorboard'


class Writer:
  """Appends to metrics.jsonl and TensorBoard. Only the first process writes; in the others it does nothing."""

  def __init__(self, workdir: str, step: int) -> None:
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
