"""How long programs take on a device that is here: all of them in turns, round by round."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np

from cmpe_jax.tools.benchmark import programs
from cmpe_jax.tools.benchmark.programs import Setting

TURN = 0.5  # seconds, at least, of a program's turn in a round


class Runner:
  """A compiled program and its arguments on the device.

  Attributes:
    images: of a call.
    compiling: seconds that the compilation took; no cache is asked.
    memory: 'temporary' and 'peak', see `programs.memory`.
    calls: in a turn.
    expected: seconds that a turn takes.
  """

  def __init__(self, config: ml_collections.ConfigDict, setting: Setting, device: jax.Device):
    """Compiles, and calls it twice to warm up and to see how many calls fill a turn."""
    program = programs.program(config, setting, device)
    lowered = program.lower(device.platform if device.platform != 'gpu' else 'cuda')
    began = time.perf_counter()
    self._compiled: Any = lowered.compile()
    self.compiling = time.perf_counter() - began
    self.images, self.memory = program.images, programs.memory(self._compiled)
    self._arguments, self._trains = program.arguments(), setting.mode == 'train'
    self.calls = 1
    self.turn()
    seconds = self.turn()
    self.calls = max(1, math.ceil(TURN / seconds))
    self.expected = self.calls * seconds

  def turn(self) -> float:
    """Seconds a call, over the calls of one turn; a training step goes on from the state that the one before left."""
    first, *rest = self._arguments
    began = time.perf_counter()
    for _ in range(self.calls):
      result = self._compiled(first, *rest)
      if self._trains:
        first, result = result
    jax.block_until_ready((first, result))
    seconds = (time.perf_counter() - began) / self.calls
    self._arguments = (first, *rest)
    return seconds


def interleave(turns: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
  """A B C A B C ...: what each one's turns gave, in order."""
  found: dict[str, list[float]] = {name: [] for name in turns}
  for _ in range(rounds):
    for name, turn in turns.items():
      found[name].append(turn())
  return found


def summary(seconds: list[float], reference: list[float] | None, images: int) -> dict[str, Any]:
  """Median, smallest and largest: of the seconds a call, and of the ratio to the reference, round by round."""
  values = {'seconds': spread(seconds), 'images_per_second': images / float(np.median(seconds))}
  if reference:
    values['ratio'] = spread([own / other for own, other in zip(seconds, reference, strict=True)])
  return values | {'rounds': [round(value, 6) for value in seconds]}


def spread(values: list[float]) -> dict[str, float]:
  """{'median', 'low', 'high'}"""
  return {'median': float(np.median(values)), 'low': min(values), 'high': max(values)}
