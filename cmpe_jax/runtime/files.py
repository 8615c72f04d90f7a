"""Files that are never half written."""

import os
import pathlib


def replace(path: pathlib.Path, text: str) -> None:
  """Writes a file whole or not at all, folders included. Raises `OSError` if it cannot."""
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.with_name(f'.{path.name}.{os.getpid()}')  # two commands may write the same one
  new.write_text(text)
  new.replace(path)
