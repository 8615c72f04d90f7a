"""What Linux says of the machine."""

import pathlib


def processor_lines(*names: str) -> list[str]:
  """The lines of these names that Linux has about each core, or none."""
  information = pathlib.Path('/proc/cpuinfo')
  lines = information.read_text().splitlines() if information.exists() else []
  return [line for line in lines if line.startswith(names)]
