"""What a run of a compiled program costs a device: by its compiler's own account, or counted where it has none."""

from typing import Any, NamedTuple

import jax

from cmpe_jax.tools.shared import hlo, multiplications


class Cost(NamedTuple):
  """On one device.

  Attributes:
    accessed: bytes read and written by all operations: the compiler's figure, or operands and results counted whole.
    flops: the compiler's figure, or two for each multiplication.
    multiplications: of convolutions and matrix products, as `multiplications.count` counts them.
    kernels: operations that the program begins one after the other; on a GPU each is a kernel or a copy.
  """

  accessed: float
  flops: float
  multiplications: float
  kernels: int


def of_program(lowered: jax.stages.Lowered, compiled: Any, devices: int = 1) -> Cost:
  """The cost of a program; `devices` share it. The GPU's compiler has no account of its own."""
  text, products = compiled.as_text(), multiplications.count(lowered) / devices
  own = compiled.cost_analysis() or {'bytes accessed': hlo.moved(text), 'flops': 2 * products}
  return Cost(own['bytes accessed'], own['flops'], products, len(hlo.operations(text)))
