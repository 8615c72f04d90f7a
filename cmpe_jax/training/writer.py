"""Where results are written: `WORKDIR/metrics.jsonl`, one object a line, and the same numbers for TensorBoard."""

import json
import pathlib
import sys
import tempfile
from typing import Any

import jax
from etils import epath

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import places, printing
from cmpe_jax.runtime.mirror import Mirror
from cmpe_jax.training import curves

FILE = 'metrics.jsonl'


class Writer:
  """Appends to metrics.jsonl and TensorBoard. Only the first process writes; in the others it does nothing.

  For a workdir in a bucket both are files of this machine, of which a `Mirror` keeps the bucket's copies.
  """

  def __init__(self, workdir: str, step: int):
    """Opens both for a run that has done `step` steps: what lies after that step is dropped, the curves are filled up.

    Raises:
      UserError: the workdir cannot be written.
    """
    target = places.place(workdir)
    self._lines: list[dict[str, Any]] = []
    self._board: curves.Points | None = None
    self._earlier: list[epath.Path] = []
    self._mirror: Mirror | None = None
    self._temporary: tempfile.TemporaryDirectory[str] | None = None
    self._path = pathlib.Path(FILE)
    if jax.process_index():
      return
    try:
      self._lines = [line for line in read(target / FILE) if line['step'] <= step]
      self._earlier = curves.files(target)
      known = curves.times(self._earlier)
      if places.is_bucket(target):
        self._temporary = tempfile.TemporaryDirectory()
        self._mirror = Mirror(pathlib.Path(self._temporary.name), target)
      folder = pathlib.Path(self._temporary.name if self._temporary else target)
      self._path = folder / FILE
      self._rewrite()
      self._board = curves.begin(folder, step, self._lines, known)
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
      self._board.add(name, value, step)
    if self._mirror and self._mirror.due():
      self.send()

  def send(self) -> None:
    """Begins to bring a bucket up to date; nothing for a folder, which is."""
    if self._mirror:
      assert self._board
      self._board.flush()
      self._mirror.send()

  def wait(self) -> None:
    """Returns when a bucket has what was sent, or `close` has to try again."""
    if self._mirror:
      self._mirror.wait()

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
      curves.remove(self._earlier, but=self._path.parent)
    if self._temporary:
      self._temporary.cleanup()

  def _rewrite(self) -> None:
    temporary = self._path.with_name(FILE + '.new')
    self._path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(''.join(json.dumps(line) + '\n' for line in self._lines))
    temporary.replace(self._path)


def read(path: epath.Path) -> list[dict[str, Any]]:
  """The lines of a file that can be read; says how many cannot, such as a last one that was cut off."""
  texts = path.read_bytes().splitlines() if path.exists() else []
  read = [_line(text) for text in texts]
  lines = [line for line in read if line is not None]
  if len(lines) < len(read):
    count = len(read) - len(lines)
    printing.line(f'{path}: {count} of {len(read)} lines cannot be read and are dropped', sys.stderr)
  return lines


def _line(text: bytes) -> dict[str, Any] | None:
  try:
    line = json.loads(text)
  except ValueError:  # no UTF-8, no JSON
    return None
  is_one = isinstance(line, dict) and type(line.get('step')) is int
  return line if is_one and all(type(value) in (int, float) for value in line.values()) else None
