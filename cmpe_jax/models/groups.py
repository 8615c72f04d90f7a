"""Groups of consecutive examples, each with batch statistics of its own."""

import jax
import jax.numpy as jnp

from cmpe_jax.errors import UserError

Array = jax.Array


def group(x: Array, size: int) -> Array:
  """[N, ...] -> [N / size, size, ...]; size 0: one group. Raises `UserError` if N is not a multiple of size."""
  if size and x.shape[0] % size:
    raise UserError(f'bn_group_size={size} does not divide the batch of {x.shape[0]}: choose a divisor, or 0.')
  shape = (x.shape[0] // size, size) if size else (1, x.shape[0])  # no -1, which an empty batch leaves open
  return x.reshape(*shape, *x.shape[1:])


def example_rows(values: Array, examples: int) -> Array:
  """[G, ...] -> [examples, ...]: each group's row for each of its examples.

  Not `jnp.repeat`: for each call XLA computes its indices while it compiles, seconds of a batch of thousands.
  """
  shape = (len(values), examples // len(values), *values.shape[1:])
  return jnp.broadcast_to(values[:, None], shape).reshape(examples, *values.shape[1:])
