"""How many multiplications a program's convolutions and matrix products take, as it is lowered, whoever compiles it.

Products with the zeros of a border are left out, and those with the zeros between the pixels of a dilated operand (the
gradient of a strided convolution has them). Normalizations and whatever else goes element by element is not counted.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np


def count(lowered: jax.stages.Lowered) -> int:
  """Of the whole program, over all devices. The body of a loop counts once."""
  module: Any = lowered.compiler_ir('stablehlo')
  functions = {str(function.attributes['sym_name']): function for function in module.body.operations}
  return _of_function('"main"', functions, {})


def _of_function(name: str, functions: dict[str, Any], known: dict[str, int]) -> int:
  if name not in known:
    known[name] = sum(_of_operation(operation, functions, known) for operation in _operations(functions[name]))
  return known[name]


def _of_operation(operation: Any, functions: dict[str, Any], known: dict[str, int]) -> int:
  if operation.name == 'func.call':
    return _of_function(str(operation.attributes['callee']).replace('@', '"') + '"', functions, known)
  if operation.name == 'stablehlo.dot_general':
    return _of_product(operation)
  return _of_convolution(operation) if operation.name == 'stablehlo.convolution' else 0


def _operations(operation: Any) -> Iterator[Any]:
  for region in operation.regions:
    for block in region.blocks:
      for inner in block.operations:
        yield inner.operation
        yield from _operations(inner.operation)


def _of_product(operation: Any) -> int:
  text = str(operation.attributes['dot_dimension_numbers'])
  contracted = re.search(r'lhs_contracting_dimensions = \[([\d, ]*)\]', text)
  left = operation.operands[0].type.shape
  return math.prod(operation.results[0].type.shape) * math.prod(left[axis] for axis in _numbers(contracted))


def _numbers(match: re.Match[str] | None) -> list[int]:
  return [int(number) for number in re.findall(r'\d+', match[1])] if match else []


def _of_convolution(operation: Any) -> int:
  attributes = operation.attributes
  # '[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]': which axis of the image, the kernel and the result is what.
  layouts = re.findall(r'\[([\w, ]*)\]', str(attributes['dimension_numbers']))
  image, kernel, result = (layout.split(', ') for layout in layouts)
  images, kernels, results = (value.type.shape for value in (*operation.operands, operation.results[0]))
  total = results[result.index('b')] * results[result.index('f')] * kernels[kernel.index('i')]
  padding = np.asarray(attributes['padding'])
  for axis in range(len(image) - 2):
    inside, taps, outputs = (
      shape[layout.index(str(axis))] for shape, layout in ((images, image), (kernels, kernel), (results, result))
    )
    stride, spread, dilation = (attributes[name][axis] for name in ('window_strides', 'lhs_dilation', 'rhs_dilation'))
    places = np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation - int(padding[axis, 0])
    hit = (places >= 0) & (places <= (inside - 1) * spread) & (places % spread == 0)
    total *= int(hit.sum())
  return total
