"""What a compiled program moves and sends, read from its text, and the memory that it needs."""

import collections
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')
BITS = {'token': 0, 'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16, 'u16': 16, 'f16': 16, 'bf16': 16}
BITS |= {'s32': 32, 'u32': 32, 'f32': 32, 's64': 64, 'u64': 64, 'f64': 64}

# What moves nothing by itself. The end of a pair of start and done moved what its start names.
_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id', 'iota'}
_LINE = re.compile(r'^\s+(?:ROOT )?(?P<name>%\S+) = (?P<shape>\(.*?\)|\S+) (?P<opcode>[a-z][\w-]*)\((?P<rest>.*)$')
_OPERAND = re.compile(r'%[\w.-]+')
_SCOPE = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_COLLECTIVE = re.compile(r'= (?P<shape>.+?) (?P<name>' + '|'.join(COLLECTIVES) + r')(?:-done)?\(')
_ARRAY = re.compile(r'\b(?P<type>[a-z]+\d*)\[(?P<shape>[\d,]*)\](?:\{(?P<layout>[^}]*)\})?')


class Array(NamedTuple):
  """An operand or a result.

  Attributes:
    shape: as the program writes it, without its layout: 'bf16[64,56,56,256]'.
    size: bytes, filled up to full tiles.
    outside: whether it lies outside of the memory on the chip.
  """

  shape: str
  size: int
  outside: bool


class Operation(NamedTuple):
  """One operation, or one fusion, of a compiled program: on a GPU a kernel or a copy.

  Attributes:
    name: its own.
    opcode: 'fusion', 'custom-call', 'copy', ...
    scope: where in the network it comes from, as the program says; '' where it does not.
    results: what it writes.
    operands: what it reads; for the start of a copy in the background nothing, because its results name them.
  """

  name: str
  opcode: str
  scope: str
  results: tuple[Array, ...]
  operands: tuple[Array, ...]

  @property
  def size(self) -> int:
    """Bytes of its operands and results, each counted whole."""
    return sum(array.size for array in (*self.results, *self.operands))

  @property
  def outside(self) -> int:
    """Of these, bytes of arrays outside of the memory on the chip."""
    return sum(array.size for array in (*self.results, *self.operands) if array.outside)


def operations(text: str) -> list[Operation]:
  """Those of the entry computation that move something; a loop's inside is left out."""
  shapes: dict[str, str] = {}
  found = []
  for line in _entry(text):
    match = _LINE.match(line)
    if not match:
      continue
    name, shape, opcode = match['name'], match['shape'], match['opcode']
    shapes[name] = shape
    if opcode in _FREE or opcode.endswith('-done'):
      continue
    # The start of a copy gives what it copies and whereto; that of an all-reduce only the result.
    named = opcode.endswith('-start') and shape.startswith('(') and opcode != 'all-reduce-start'
    read = [] if named else [shapes.get(one, '') for one in _OPERAND.findall(_arguments(match['rest']))]
    scope = _SCOPE.search(match['rest'])
    operands = tuple(array for one in read for array in arrays(one))
    found.append(Operation(name, opcode, scope[1] if scope else '', tuple(arrays(shape)), operands))
  return found


def moved(text: str) -> int:
  """Bytes that the operations of the entry computation read and write, each operand and each result counted whole."""
  return sum(operation.size for operation in operations(text))


def largest(text: str, count: int) -> list[tuple[str, int, int]]:
  """(shape, bytes of one, how many) of the largest arrays that a program writes, those of a shape together.

  Copies in the background are left out.
  """
  every = (operation for operation in operations(text) if not operation.opcode.endswith('-start'))
  written = [array for operation in every for array in operation.results]
  found = collections.Counter((array.shape, array.size) for array in written)
  ordered = sorted(found.items(), key=lambda item: (-item[0][1], item[0][0]))
  return [(shape, size, number) for (shape, size), number in ordered[:count]]


def arrays(shape: str) -> Iterator[Array]:
  """The arrays of 'f32[64,3]{1,0}' or of a tuple of such."""
  for array in _ARRAY.finditer(shape):
    kind, dimensions, layout = array['type'], array['shape'], array['layout'] or ''
    yield Array(f'{kind}[{dimensions}]', size(f'{kind}[{padded(dimensions, layout)}]'), 'S(' not in layout)


def size(shape: str) -> int:
  """Bytes of 'f32[64,3]{1,0}' or of a tuple of such, without tiles: 768."""
  total = 0
  for array in _ARRAY.finditer(shape):
    count = 1
    for length in filter(None, array['shape'].split(',')):
      count *= int(length)
    total += count * BITS[array['type']] // 8
  return total


def padded(shape: str, layout: str) -> str:
  """The dimensions of '64,9,9,3' as a layout '0,3,2,1:T(8,128)(2,1)' stores them: '128,9,9,8'."""
  sizes = [int(length) for length in filter(None, shape.split(','))]
  order, _, tiles = layout.partition(':')
  tile = re.match(r'T\(([\d,]*)\)', tiles)
  if sizes and tile and order:
    for dimension, length in zip(order.split(','), reversed(tile[1].split(',')), strict=False):
      sizes[int(dimension)] = -(-sizes[int(dimension)] // int(length)) * int(length)
  return ','.join(map(str, sizes))


def collectives(text: str) -> dict[str, tuple[int, int]]:
  """{'all-reduce': (number, bytes of their results on one device)} of a compiled program.

  A collective that runs in the background is written as a pair, start and done; the done has the result. One inside
  a loop counts once.
  """
  found: dict[str, list[int]] = collections.defaultdict(list)
  for line in text.splitlines():
    match = _COLLECTIVE.search(line)
    if match:
      found[match['name']].append(size(match['shape']))
  return {name: (len(sizes), sum(sizes)) for name, sizes in sorted(found.items())}


def peak(memory: Any) -> int:
  """Bytes at the worst moment of a program, arguments and results included, from its `memory_analysis()`."""
  floor = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
  floor += memory.temp_size_in_bytes
  return max(memory.peak_memory_in_bytes, floor)  # the CPU's compiler leaves the temporary ones out


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
