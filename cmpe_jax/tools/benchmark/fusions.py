"""Which parts of a network a compiled program's memory traffic belongs to, read from the program's text."""

import collections
import re

from cmpe_jax.models import paths
from cmpe_jax.tools.shared import hlo


def groups(text: str) -> dict[str, dict[str, int]]:
  """{place: {'count': of operations, 'size': bytes of operands and results, 'outside': of these, off the chip}}."""
  found: dict[str, dict[str, int]] = collections.defaultdict(lambda: {'count': 0, 'size': 0, 'outside': 0})
  for operation in hlo.operations(text):
    copies = 'copy' in operation.opcode or operation.opcode.endswith('-start')
    group = found['copies' if copies else place(operation.scope)]
    group['count'] += 1
    group['size'] += operation.size
    group['outside'] += operation.outside
  return dict(sorted(found.items()))


def place(operation: str) -> str:
  """'jit(f)/ResNet/ResNet.run_stage/stage1_block2/conv1/add' gives 'stage1 later conv1'.

  'first' is the first block of a stage, the one that projects; 'later' are the others. The gradient's part begins with
  'grad '. What is outside of the network is 'other'. (Copies, such as those of kernels into the memory on the chip, are
  'copies', wherever they belong.)
  """
  # Arguments are written state.params['stem']['kernel'], with or without backslashes. A gradient by hand is a jvp of
  # nothing, below the module that it belongs to.
  parts = [part for part in re.split(r"[/\\\[\]']+|state\.", operation) if part and '.' not in part]
  parts = [part for part in parts if not part.endswith('jvp())')]
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
