"""Where the random numbers of training come from: a key for each purpose and step, from the seed alone."""

import jax

INIT, AUGMENT, MIXUP, DROPOUT = range(4)  # the purposes


def key(seed: int, purpose: int, step: int | jax.Array) -> jax.Array:
  """The random key of a step for one purpose; every random number on the device comes from such a key."""
  root = jax.random.key(seed, impl='threefry2x32')  # the only generator whose numbers do not depend on the layout
  return jax.random.fold_in(jax.random.fold_in(root, purpose), step)
