"""What a compiled program sends between devices, read from its text, and the memory that it needs."""

import collections
import re
from typing import Any

COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')
BITS = {'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16, 'u16': 16, 'f16': 16, 'bf16': 16}
BITS |= {'s32': 32, 'u32': 32, 'f32': 32, 's64': 64, 'u64': 64, 'f64': 64}

_INSTRUCTION = re.compile(r'= (?P<shape>.+?) (?P<name>' + '|'.join(COLLECTIVES) + r')(?:-done)?\(')
_ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')


def size(shape: str) -> int:
  """Bytes of 'f32[64,3]{1,0}' or of a tuple of such: 768."""
  total = 0
  for kind, dimensions in _ARRAY.findall(shape):
    count = 1
    for length in filter(None, dimensions.split(',')):
      count *= int(length)
    total += count * BITS[kind] // 8
  return total


def collectives(text: str) -> dict[str, tuple[int, int]]:
  """{'all-reduce': (number, bytes of their results on one device)} of a compiled program.

  A collective that runs in the background is written as a pair, start and done; the done has the result. One inside
  a loop counts once.
  """
  found: dict[str, list[int]] = collections.defaultdict(list)
  for line in text.splitlines():
    match = _INSTRUCTION.search(line)
    if match:
      found[match['name']].append(size(match['shape']))
  return {name: (len(sizes), sum(sizes)) for name, sizes in sorted(found.items())}


def peak(memory: Any) -> int:
  """Bytes at the worst moment of a program, arguments and results included, from its `memory_analysis()`."""
  floor = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
  floor += memory.temp_size_in_bytes
  return max(memory.peak_memory_in_bytes, floor)  # the CPU's compiler leaves the temporary ones out
