"""The names of parameters and statistics: how trees become names, and what a name says of its place in a network.

'params/stage1_block0/gate/squeeze/kernel': collection, block, modules, leaf.
"""

import re
from collections.abc import Callable
from typing import Any

import jax

GATE, CLASSIFIER = 'gate', 'classifier'
STEM = ('stem', 'input_bn', 'stem_bn')
_BLOCK = re.compile(r'stage(\d+)_block(\d+)')


def joined(path: tuple[Any, ...]) -> str:
  """JAX's path of a leaf in nested dicts -> 'params/classifier/kernel'."""
  return '/'.join(str(part.key) for part in path)


def named(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
  """{'params/classifier/kernel': leaf, ...}"""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
  return {joined(path): leaf for path, leaf in flat}


def block_name(stage: int, index: int) -> str:
  """(1, 0) -> 'stage1_block0'. Stages count from 1, blocks from 0."""
  return f'stage{stage}_block{index}'


def block_of(name: str) -> tuple[int, int] | None:
  """'stage1_block0' or a path through it -> (1, 0); None outside of blocks."""
  match = _BLOCK.search(name)
  return (int(match[1]), int(match[2])) if match else None


def every_block(name: str) -> str:
  """A path with 'stage*_block*' in place of its block: what all blocks have in common."""
  return _BLOCK.sub('stage*_block*', name)


def is_of_gate(name: str) -> bool:
  """Whether a path leads through a gate."""
  return f'/{GATE}/' in f'/{name}/'


def part_of(name: str) -> str:
  """Which part of the network a path belongs to: 'stem', 'stage1', ..., or 'head'."""
  block = block_of(name)
  if block:
    return f'stage{block[0]}'
  return 'stem' if any(part in STEM for part in name.split('/')) else 'head'


def is_frozen(name: str, stages: int) -> bool:
  """Whether `config.freeze` = `stages` leaves the module at this path alone: the stem and so many stages; 0: none."""
  part = part_of(name)
  return stages > 0 and part in ('stem', *(f'stage{number}' for number in range(1, stages + 1)))
