"""Where results are written: `WORKDIR/metrics.jsonl`, one object a line, and the same numbers for TensorBoard."""

import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import places
from cmpe_jax.runtime.mirror import Mirror

FILE, CURVES = 'metrics.jsonl', 'tensorboard'


class Writer:
  """Appends to metrics.jsonl and TensorBoard. Only the first process writes; in the others it does nothing.

  For a workdir in a bucket both are files of this machine, of which a `Mirror` keeps the bucket's copies.
  """

  def __init__(self, workdir: str, step: int):
    """Opens both for a run that has done `step` steps: what lies after that step is dropped.

    Raises:
      UserError: the workdir cannot be written.
    """
    target = places.place(workdir)
    self._lines: list[dict[str, Any]] = []
    self._board: Any = None
    self._mirror: Mirror | None = None
    self._temporary: tempfile.TemporaryDirectory[str] | None = None
    self._path = pathlib.Path(FILE)
    if jax.process_index():
      return
    from tensorboardX import SummaryWriter  # late: 0.3 s

    try:
      self._lines = [line for line in _lines(target / FILE) if line['step'] <= step]
      if places.is_bucket(target):
        self._temporary = tempfile.TemporaryDirectory()
        self._mirror = Mirror(pathlib.Path(self._temporary.name), target)
      folder = pathlib.Path(self._temporary.name if self._temporary else target)
      self._path = folder / FILE
      self._rewrite()
      self._board = SummaryWriter(
        str(folder / CURVES), purge_step=step + 1, flush_secs=10, filename_suffix=f'.{step:09}'
      )
    except OSError as error:
      raise places.explain(error) or UserError(
        f'{target / FILE} cannot be written ({error.strerror or error}): give another --workdir.'
      ) from error

  def write(self, step: int, values: dict[str, float]) -> None:
    """One line, one point on each curve."""
    if self._board is None:
      return
    line = {'step': step} | values
    self._lines.append(line)
    with self._path.open('a') as file:
      file.write(json.dumps(line) + '\n')
    for name, value in values.items():
      self._board.add_scalar(name, value, step)
    if self._mirror and self._mirror.due():
      self.send()

  def send(self) -> None:
    """Begins to bring a bucket up to date; nothing for a folder, which is."""
    if self._mirror:
      self._board.flush()
      self._mirror.send()

  def find(self, step: int, prefix: str) -> dict[str, float]:
    """What was written at a step under names that start with `prefix`; {} if nothing."""
    found: dict[str, float] = {}
    for line in self._lines:
      if line['step'] == step:
        found |= {name: value for name, value in line.items() if name.startswith(prefix)}
    return found

  def close(self) -> None:
    """Flushes, and waits until a bucket is up to date."""
    if self._board is not None:
      self._board.close()
    if self._mirror:
      self._mirror.close()
    if self._temporary:
      self._temporary.cleanup()

  def _rewrite(self) -> None:
    temporary = self._path.with_name(FILE + '.new')
    self._path.parent.mkdir(parents=True, exist_ok=True)
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
