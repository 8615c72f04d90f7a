"""Blocks that are alike, run in one loop: the compiler sees one of them instead of all.

The variables of the network stay those of its blocks, one by one; they are stacked where the loop begins.
"""

import contextlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array
WRITTEN = ('batch_stats', 'intermediates')


class DropoutKey(nn.Module):
  """Under the name of a block: the key that the dropout of that block would draw."""

  @nn.compact
  def __call__(self) -> Array:
    """A random key."""
    return nn.Dropout(0.0, name='Dropout_0').make_rng('dropout')


def run(net: nn.Module, block: nn.Module, names: list[str], x: Array, v: Array | None) -> tuple[Array, Array | None]:
  """The blocks `names` of `net` one after the other, in a `lax.scan`; to be called while `net` is applied.

  Args:
    net: the bound network, whose variables hold those of each block. Statistics and whatever the blocks sow are written
      back there, under the block's name.
    block: an unbound block of the same kind as all of them.
    names: of the blocks, in order.
    x: the input of the first one, of the shape and type of its output.
    v: the descriptor of `x`, or None if the blocks hand none on.

  Returns:
    The output of the last one and its descriptor or None. All numbers are those of the blocks called one by one,
    dropout included.
  """
  written = [kind for kind in WRITTEN if net.is_mutable_collection(kind)]
  variables = {kind: _stack([net.variables[kind][name] for name in names]) for kind in ('params', 'batch_stats')}
  keys = None
  if getattr(block, 'dropout', 0) and getattr(block, 'train', False):
    keys = jnp.stack([DropoutKey(name=name, parent=net)() for name in names])

  def body(carry: Any, each: Any) -> tuple[Any, Any]:
    own, key = each
    with _dropout(key):
      carry, updated = block.apply(own, *carry, mutable=written)
    return carry, updated

  (x, v), updated = jax.lax.scan(body, (x, v), (variables, keys))
  for kind, trees in updated.items():
    for i, name in enumerate(names):
      net.put_variable(kind, name, jax.tree.map(lambda leaf, i=i: leaf[i], trees))
  return x, v


def _stack(trees: list[Any]) -> Any:
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _dropout(key: Array | None) -> contextlib.AbstractContextManager:
  """Dropout layers inside take this key instead of drawing one by their place, which is the same in every round."""

  def call(method: Any, arguments: Any, keywords: Any, context: Any) -> Any:
    return method(*arguments, **keywords, **({'rng': key} if isinstance(context.module, nn.Dropout) else {}))

  return contextlib.nullcontext() if key is None else nn.intercept_methods(call)
