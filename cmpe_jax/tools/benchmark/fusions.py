"""Which parts of a network a compiled program's memory traffic belongs to, read from the program's text."""

import collections
import re
from collections.abc import Iterator
from typing import NamedTuple

from cmpe_jax.models import paths
from cmpe_jax.tools.shared import hlo

# What moves nothing by itself. The end of a pair of start and done moved what its start names.
_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id', 'iota'}
_LINE = re.compile(r'^\s+(?:ROOT )?(?P<name>%\S+) = (?P<shape>\(.*?\)|\S+) (?P<opcode>[a-z][\w-]*)\((?P<rest>.*)$')
_OPERAND = re.compile(r'%[\w.-]+')
_ARRAY = re.compile(r'\b(?P<type>[a-z]+\d*)\[(?P<shape>[\d,]*)\](?:\{(?P<layout>[^}]*)\})?')


class Instruction(NamedTuple):
  """One instruction, or one fusion, of a compiled program.

  Attributes:
    name: its own.
    place: of the network, as `place` says.
    size: bytes of its operands and results, each counted whole and filled up to full tiles.
    outside: of these, bytes of arrays that do not lie in the memory on the chip.
  """

  name: str
  place: str
  size: int
  outside: int


def instructions(text: str) -> Iterator[Instruction]:
  """Those of the entry computation that move something; a loop's inside is left out."""
  shapes: dict[str, str] = {}
  for line in _entry(text):
    match = _LINE.match(line)
    if not match:
      continue
    name, shape, opcode = match['name'], match['shape'], match['opcode']
    shapes[name] = shape
    if opcode in _FREE or opcode.endswith('-done'):
      continue
    moved = [shape]
    if not opcode.endswith('-start'):  # the result of a start names its operands
      moved += [shapes.get(operand, '') for operand in _OPERAND.findall(_arguments(match['rest']))]
    operation = re.search(r'op_name="((?:[^"\\]|\\.)*)"', match['rest'])
    where = 'copies' if 'copy' in opcode or opcode.endswith('-start') else place(operation[1] if operation else '')
    pairs = [pair for part in moved for pair in _arrays(part)]
    yield Instruction(name, where, sum(size for size, _ in pairs), sum(size for size, outside in pairs if outside))


def groups(text: str) -> dict[str, dict[str, int]]:
  """{place: {'count', 'size', 'outside'}}, the sums over its instructions."""
  found: dict[str, dict[str, int]] = collections.defaultdict(lambda: {'count': 0, 'size': 0, 'outside': 0})
  for instruction in instructions(text):
    group = found[instruction.place]
    group['count'] += 1
    group['size'] += instruction.size
    group['outside'] += instruction.outside
  return dict(sorted(found.items()))


def place(operation: str) -> str:
  """'jit(f)/ResNet/ResNet.run_stage/stage1_block2/conv1/add' gives 'stage1 later conv1'.

  'first' is the first block of a stage, the one that projects; 'later' are the others. The gradient's part begins with
  'grad '. What is outside of the network is 'other'. (Copies, such as those of kernels into the memory on the chip, are
  'copies', wherever they belong.)
  """
  # Arguments are written state.params['stem']['kernel'], with or without backslashes.
  parts = [part for part in re.split(r"[/\\\[\]']+|state\.", operation) if part and '.' not in part]
  backward = 'grad ' if 'transpose(' in operation else ''
  for i, part in enumerate(parts):
    block = paths.block_of(part)
    if block:
      module = (parts[i + 1 : -1] or ['sum'])[0]
      return f'{backward}stage{block[0]} {"first" if block[1] == 0 else "later"} {module}'
    if part in ('params', 'batch_stats') or part.endswith('ResNet') or 'ResNet)' in part:
      outer = (parts[i + 1 : -1] or ['ends'])[0]
      if not paths.block_of(outer):
        return backward + outer
  return 'other'


def padded(shape: str, layout: str) -> str:
  """The dimensions of '64,9,9,3' as a layout '0,3,2,1:T(8,128)(2,1)' stores them: '128,9,9,8'."""
  sizes = [int(length) for length in filter(None, shape.split(','))]
  order, _, tiles = layout.partition(':')
  tile = re.match(r'T\(([\d,]*)\)', tiles)
  if sizes and tile and order:
    for dimension, length in zip(order.split(','), reversed(tile[1].split(',')), strict=False):
      sizes[int(dimension)] = -(-sizes[int(dimension)] // int(length)) * int(length)
  return ','.join(map(str, sizes))


def _arrays(shape: str) -> Iterator[tuple[int, bool]]:
  """(bytes, whether it lies outside of the chip) of each array in a shape."""
  for array in _ARRAY.finditer(shape):
    layout = array['layout'] or ''
    yield hlo.size(f'{array["type"]}[{padded(array["shape"], layout)}]'), 'S(' not in layout


def _entry(text: str) -> Iterator[str]:
  inside = False
  for line in text.splitlines():
    if line.startswith('ENTRY'):
      inside = True
    elif inside and line.startswith('}'):
      return
    elif inside:
      yield line


def _arguments(rest: str) -> str:
  """Up to the bracket that closes the operands."""
  depth = 1
  for i, character in enumerate(rest):
    depth += {'(': 1, ')': -1}.get(character, 0)
    if not depth:
      return rest[:i]
  return rest
