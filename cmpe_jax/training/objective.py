"""The loss: softmax cross-entropy with label smoothing and mixup."""

import jax
import jax.numpy as jnp
import optax


def mix_weight(key: jax.Array, alpha: float) -> jax.Array:
  """lambda ~ Beta(alpha, alpha), one for the whole batch, float32[] (Zhang et al. 2018, mixup)."""
  return jax.random.beta(key, alpha, alpha, dtype=jnp.float32)


def mix(x: jax.Array, weight: jax.Array) -> jax.Array:
  """weight * x[i] + (1 - weight) * x[i - 1] along the batch, [B, ...] -> [B, ...].

  Neighbors of a shuffled batch are random pairs, and over a mesh only one row a device has to move.
  """
  weight = weight.astype(x.dtype)
  return weight * x + (1 - weight) * jnp.roll(x, 1, axis=0)


def targets(labels: jax.Array, num_classes: int, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
  """int32[B] -> one-hot [B, num_classes]; all zeros where the label is -1."""
  return jax.nn.one_hot(labels, num_classes, dtype=dtype)


def cross_entropy(logits: jax.Array, target: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Per example, [B, C] and [B, C] -> [B]: -sum_c t_c log softmax(logits)_c.

  With smoothing s, t_c = (1 - s) target_c + s / C (Szegedy et al. 2016).
  """
  return optax.losses.softmax_cross_entropy(logits, optax.smooth_labels(target, smoothing))


def correct(logits: jax.Array, target: jax.Array) -> jax.Array:
  """Per example, [B]: the target's weight on the class with the largest logit (0 or 1 for one-hot targets)."""
  return jnp.take_along_axis(target, jnp.argmax(logits, -1)[:, None], axis=-1)[:, 0]


def in_top(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
  """bool[B]: is the label among the k largest logits."""
  return (jax.lax.top_k(logits, k)[1] == labels[:, None]).any(-1)
