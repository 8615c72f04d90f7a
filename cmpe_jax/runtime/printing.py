"""Tables for a console."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], left: int | None = 1) -> str:
  """Rows of cells as lines, two spaces between columns: the first `left` to the left (None: all), the others to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  left = len(widths) if left is None else left
  return '\n'.join(
    '  '.join(
      cell.ljust(width) if i < left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  )
