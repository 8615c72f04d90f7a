"""How far a comparison is: now and then a short line on the console, with what is left."""

import datetime
import time
from typing import Any

from cmpe_jax.runtime import printing
from cmpe_jax.tools.compare.cells import Cell


class Progress:
  """Follows the cells, one after the other; `step` is the `on_step` of a run's console."""

  EVERY = 10.0  # seconds

  def __init__(self, cells: int, finished: int):
    """`cells` in all, of which `finished` were there before."""
    self._cells, self._finished = cells, finished
    self._began = self._shown = time.monotonic()
    self._worked = self._part = 0.0
    self._base: float | None = None
    self._cell: Cell | None = None

  def enter(self, cell: Cell) -> None:
    """The cell that begins, or goes on."""
    self._cell, self._part = cell, 0.0
    self._base = None if cell.begun() else 0.0
    self._say('goes on from its checkpoint' if cell.begun() else 'begins')

  def skip(self, cell: Cell) -> None:
    """The cell has been finished by another process."""
    self._cell, self._part, self._base = cell, 0.0, 0.0
    self._finished += 1
    self._say('is finished in the file of results')

  def step(self, done: int, total: int) -> None:
    """So many steps of the cell are done."""
    self._part = done / total
    self._base = self._part if self._base is None else self._base
    if time.monotonic() - self._shown > self.EVERY:
      self._say(f'step {done}/{total}')

  def leave(self, result: dict[str, Any]) -> None:
    """The cell is finished."""
    self._worked += 1 - (self._base or 0.0)
    self._finished, self._part, self._base = self._finished + 1, 0.0, 0.0
    self._say(f'accuracy {result["accuracy"]:.2%}, {result["seconds"]:.0f} s of training')

  def _left(self) -> str:
    """How long the rest takes at the speed so far."""
    worked = self._worked + self._part - (self._base or 0.0)
    rest = self._cells - self._finished - self._part
    if not rest:
      return ''
    if worked < 0.02:
      return ', ETA unknown yet'
    seconds = rest * (time.monotonic() - self._began) / worked
    return f', ETA {datetime.timedelta(seconds=round(seconds))}'

  def _say(self, text: str) -> None:
    self._shown = time.monotonic()
    printing.line(f'[{self._finished} of {self._cells} done{self._left()}]  {self._cell}: {text}')
