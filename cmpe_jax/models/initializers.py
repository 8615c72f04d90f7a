"""Initial values: each rule maps standard normal numbers to a parameter, so that one draw can serve a whole net.

Backbone: He et al. 2015 with fan-out, as the authors do for their ResNets. Gate and classifier: 1/sqrt(fan in).
"""

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Rule = Callable[[Any], Any]  # of NumPy and of JAX arrays alike


def conv_kernel(normal):
  """Kernel [kh, kw, in, out] with standard deviation sqrt(2 / (kh * kw * out))."""
  kh, kw, _, out = normal.shape
  return normal * (2 / (kh * kw * out)) ** 0.5


def dense_kernel(normal):
  """Kernel [in, out] with standard deviation 1/sqrt(in)."""
  return normal * normal.shape[0] ** -0.5


def map_kernel(normal):
  """Kernel [kh, kw, 1, m] with standard deviation 1/sqrt(kh * kw), each filter's sum made positive.

  Batch normalization keeps little of a map filter but its direction, and the gate sees the mean over the m filters:
  filters of opposite signs cancel and the gate would start blind. With positive sums they agree.
  """
  kh, kw, _, _ = normal.shape
  sums = normal.sum(axis=(0, 1, 2), keepdims=True)
  return normal * (1 - 2 * (sums < 0)) * (kh * kw) ** -0.5


def initializer(rule: Rule):
  """A Flax initializer (key, shape, dtype) that draws standard normal numbers and applies `rule`."""

  def initialize(key, shape, dtype=jnp.float32):
    return rule(jax.random.normal(key, shape, dtype))

  return initialize


def rule_of(path: str) -> Rule:
  """The rule by which the modules of this package initialize the parameter or statistic at this path."""
  name = path.rsplit('/', 1)[-1]
  if name in ('scale', 'var'):
    return np.ones_like
  if name in ('bias', 'mean'):
    return np.zeros_like
  if path.endswith('map_conv/kernel'):
    return map_kernel
  return dense_kernel if any(part in path for part in ('squeeze', 'excite', 'classifier')) else conv_kernel


def draw(key: jax.Array, shapes, zero: Callable[[str], bool] = lambda path: False):
  """Initial values for a tree of `jax.ShapeDtypeStruct`, by `rule_of` each path.

  A jitted `init` compiles hundreds of small random programs, which takes longer than the training step. Here the key
  seeds NumPy's Philox, one stream a parameter by the path's CRC: nothing compiles, and a parameter's value
  depends on the key, its path and its shape only.

  Args:
    key: a `jax.random.key`.
    shapes: the tree.
    zero: paths that start at zero instead (zero-initialized residual branches).
  """
  seed = [int(word) for word in np.asarray(jax.random.key_data(key)).ravel()]

  def value(path, leaf):
    name = '/'.join(str(part.key) for part in path)
    rule = np.zeros_like if zero(name) else rule_of(name)
    if rule in (np.ones_like, np.zeros_like):
      return rule(np.empty(leaf.shape, leaf.dtype))
    stream = np.random.Generator(np.random.Philox(np.random.SeedSequence([*seed, zlib.crc32(name.encode())])))
    return rule(stream.standard_normal(leaf.shape)).astype(leaf.dtype)

  return jax.tree_util.tree_map_with_path(value, shapes)
