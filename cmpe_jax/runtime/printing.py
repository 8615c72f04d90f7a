"""What people read on a console: lines of the first process only, and tables that align."""

import os
import sys
from collections.abc import Sequence
from typing import TextIO


def line(text: str, stream: TextIO | None = None) -> None:
  """Prints a line, at once, to stdout or `stream`.

  Where nobody reads any more, as of `| tee log`, which Ctrl-C ends as well, this line and all that follow are lost, and
  not what the command has yet to save.
  """
  stream = stream or sys.stdout
  try:
    print(text, file=stream, flush=True)
  except BrokenPipeError:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def say(text: str, stream: TextIO | None = None) -> None:
  """Prints a line, at once, to stdout or `stream`; only the first of several processes does."""
  import jax  # late: tables are printed by commands that need no JAX, too

  if jax.process_index() == 0:
    line(text, stream)


def aligned(rows: Sequence[Sequence[str]], left: int | None = 1) -> str:
  """Rows of cells as lines, two spaces between columns.

  The first `left` columns (None: all) stand to the left, the others to the right.
  """
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  left = len(widths) if left is None else left
  return '\n'.join(
    '  '.join(
      cell.ljust(width) if i < left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  )


def table(rows: dict[str, str]) -> str:
  """Names and values in two columns."""
  return aligned(list(rows.items()), left=None)
