"""What several test files need."""

import dataclasses
import os
import pathlib
import subprocess
import sys
from typing import Any

from cmpe_jax.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass
class Source:
  """Batches from one array, by index."""

  resident: dict[str, Any]

  @staticmethod
  def materialize(resident, drawn):
    return {name: values[drawn] for name, values in resident.items()}


def run_module(module, *arguments):
  """`python -m module arguments` in the repository, with the CPU devices it would have by itself."""
  return subprocess.run(
    [sys.executable, '-m', module, *arguments],
    cwd=ROOT, env=os.environ | {'XLA_FLAGS': ''}, capture_output=True, text=True, timeout=280,
  )  # fmt: skip


def newest_arrays(workdir):
  """Step and arrays, by name, of the newest checkpoint."""
  checkpoints = Checkpoints(str(workdir))
  step = checkpoints.choose('newest')
  arrays = checkpoints.arrays(step)
  checkpoints.close()
  return step, arrays
