"""Types and precision: what is computed in more than the type of the feature maps."""

import jax
import jax.numpy as jnp


def at_least_float32(dtype: jax.typing.DTypeLike) -> jnp.dtype:
  """float64 for float64, else float32: the type of parameters, statistics, descriptors, gate, logits and loss."""
  return jnp.promote_types(dtype, jnp.float32)


def of_products(x: jax.Array) -> jax.lax.Precision | None:
  """The precision in which products of x are exact in their type: bfloat16 needs one pass, others all of them."""
  return None if x.dtype == jnp.bfloat16 else jax.lax.Precision.HIGHEST
