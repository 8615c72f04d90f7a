"""Inner imaging: the pooled signals of a block laid out as a small image, and the filters that read it.

Pure functions, no parameters. Symbols as in arXiv 1807.08920: `u` and `v`, both [N, C], are the channel means of the
residual branch and of the identity; the image has shape [N, rows, columns]. The m filters of `map_conv`, each with its
own batch normalization, are averaged; `collapse_*` turns all of them into one filter and one offset, exactly.
"""

import jax
import jax.numpy as jnp

Array = jax.Array
EPSILON = 1e-5


def pair_map(u: Array, v: Array) -> Array:
  """The pair view: [N, C, 2], column 0 the residual's descriptor, column 1 the identity's."""
  return jnp.stack([u, v], axis=-1)


def fold(u: Array, v: Array, columns: int) -> Array:
  """The folded view: [N, 2C/columns, columns].

  Even rows hold `u`, odd rows `v`: map[row, col] is channel (row // 2) * columns + col.
  """
  batch, channels = u.shape
  shape = (batch, channels // columns, columns)  # no -1, for an empty batch
  rows = jnp.stack([u.reshape(shape), v.reshape(shape)], axis=2)
  return rows.reshape(batch, 2 * channels // columns, columns)


def taps(image: Array, kernel_shape: tuple[int, int]) -> list[Array]:
  """The image as each tap of a valid filter sees it: T = kh * kw arrays [..., rows - kh + 1, columns - kw + 1]."""
  kh, kw = kernel_shape
  rows, columns = image.shape[-2] - kh + 1, image.shape[-1] - kw + 1
  return [image[..., i : i + rows, j : j + columns] for i in range(kh) for j in range(kw)]


def apply_filter(image: Array, kernel: Array, kernel_shape: tuple[int, int]) -> Array:
  """One valid filter over images of G groups: image [G, N, rows, columns], kernel [G, T] (or [1, T])."""
  seen = taps(image, kernel_shape)
  return sum(kernel[:, t, None, None, None] * tap for t, tap in enumerate(seen))  # type: ignore[return-value]


def patch_moments(image: Array, kernel_shape: tuple[int, int]) -> tuple[Array, Array]:
  """Mean [G, T] and biased covariance [G, T, T] of the valid patches of each group's images [G, N, rows, columns].

  Two passes, the second over centered patches: the one-pass formula loses the variance of a map whose mean is large.
  """
  seen = taps(image, kernel_shape)
  mean = jnp.stack([tap.mean(axis=(1, 2, 3)) for tap in seen], axis=-1)
  centered = [tap - mean[:, t, None, None, None] for t, tap in enumerate(seen)]
  products = {(a, b): (centered[a] * centered[b]).mean(axis=(1, 2, 3)) for a in range(len(seen)) for b in range(a + 1)}
  covariance = [[products[max(a, b), min(a, b)] for b in range(len(seen))] for a in range(len(seen))]
  return mean, jnp.stack([jnp.stack(row, axis=-1) for row in covariance], axis=-2)


def filter_moments(kernels: Array, mean: Array, covariance: Array) -> tuple[Array, Array]:
  """Mean and variance, each [G, m], of what the filters [T, m] give on patches with these moments.

  Where a filter takes the difference of values that are nearly alike, w' S w cancels down to its rounding, which can be
  far below zero.
  """
  precision = jax.lax.Precision.HIGHEST
  filter_mean = jnp.einsum('gt,tm->gm', mean, kernels, precision=precision)
  filter_variance = jnp.einsum('sm,gst,tm->gm', kernels, covariance, kernels, precision=precision)
  return filter_mean, jnp.maximum(filter_variance, 0)


def collapse(kernels: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
  """The m normalized filters and their average as one filter [G, T] and one offset [G].

  mean_i(scale_i (w_i.p - mean_i) / sqrt(variance_i + eps) + bias_i) = k.p + b with
  k = (1/m) sum_i scale_i w_i / sqrt(variance_i + eps) and b = (1/m) sum_i (bias_i - scale_i mean_i / sqrt(...)).

  Args:
    kernels: w [T, m].
    scale: [m], of the batch normalization.
    bias: [m].
    mean: [G, m], of the filters' outputs: the batch's or the running ones.
    variance: [G, m].
  """
  gain = scale * jax.lax.rsqrt(variance + EPSILON)
  kernel = jnp.einsum('gm,tm->gt', gain, kernels, precision=jax.lax.Precision.HIGHEST) / kernels.shape[1]
  return kernel, (bias - gain * mean).mean(axis=-1)
