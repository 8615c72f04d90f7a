"""How a block obtains `u` and `v`, the channel means of its residual and of its identity: two forms, one interface.

`REFERENCE` pools each feature map, as the paper writes it. `FUSED` reads less memory for the same numbers:

* A convolution without bias commutes with the mean: mean_HW(conv(x)) = sum_t (S_t / HW) @ W_t, where S_t is the sum of
  those pixels of x that tap t of the filter sees. The input of a bottleneck's last convolution is four times narrower.
* mean_HW(identity + s * residual) = v + s * u: a block without a final ReLU hands its descriptor on, [N, C].
* In training a batch normalization reads the output of the last convolution in any case: the moments of each example
  give its statistics and the descriptor at once, and the same in the gradient (`norms.Normalized`).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from cmpe_jax.models.precision import at_least_float32

Array = jax.Array
Pair = tuple[int, int]


def mean_hw(x: Array) -> Array:
  """The channel means [N, C] of a feature map [N, H, W, C], in at least float32."""
  return jnp.mean(x, axis=(1, 2), dtype=at_least_float32(x.dtype))


def positions(size: int, kernel: int, stride: int, padding: int) -> int:
  """Rows (or columns) of a convolution's output."""
  return (size + 2 * padding - kernel) // stride + 1


def seen_by_taps(size: int, kernel: int, stride: int, padding: int) -> np.ndarray:
  """Which of `size` rows (or columns) each tap of a filter reads at some output position: 0/1, [kernel, size]."""
  seen = np.zeros((kernel, size))
  for tap in range(kernel):
    rows = np.arange(positions(size, kernel, stride, padding)) * stride + tap - padding
    seen[tap, rows[(rows >= 0) & (rows < size)]] = 1
  return seen


def mean_of_conv(x: Array, kernel: Array, strides: Pair, padding: Pair) -> Array:
  """mean_HW(conv(x, kernel)) without the convolution.

  Args:
    x: [N, H, W, c], of any float type; sums are in at least float32.
    kernel: [kh, kw, c, C].
    strides: of the convolution.
    padding: zeros on each side, rows and columns.

  Returns:
    [N, C], in at least float32.
  """
  kh, kw, _, features = kernel.shape
  outputs = positions(x.shape[1], kh, strides[0], padding[0]) * positions(x.shape[2], kw, strides[1], padding[1])
  if (kh, kw) == (1, 1) and padding == (0, 0):
    sums = _sum_of_pixels(x, strides)[:, None]
  else:
    sums = _sums_of_taps(x, (kh, kw), strides, padding)
  weights = kernel.astype(x.dtype).astype(sums.dtype).reshape(kh * kw, -1, features)
  return jnp.einsum('ntc,tcf->nf', sums / outputs, weights, precision=jax.lax.Precision.HIGHEST)


def _sum_of_pixels(x: Array, strides: Pair) -> Array:
  """[N, c]: the sum of every pixel, or of those that a strided 1x1 convolution sees.

  A TPU reads less memory through a mask than through a slice. On a CPU the convolution has made the slice already, and
  the mask took twenty times as long in a whole network. A GPU reads less through the slice, and the mask, a product
  with a single row, does not compile: there are no tiles for a result of [65536, 1].
  """
  total = functools.partial(jnp.sum, axis=(1, 2), dtype=at_least_float32(x.dtype))
  if strides == (1, 1):
    return total(x)

  def of_slice(x: Array) -> Array:
    return total(x[:, :: strides[0], :: strides[1]])

  def of_mask(x: Array) -> Array:
    return _sums_of_taps(x, (1, 1), strides, (0, 0))[:, 0]

  return jax.lax.platform_dependent(x, cpu=of_slice, cuda=of_slice, rocm=of_slice, default=of_mask)


def _sums_of_taps(x: Array, size: Pair, strides: Pair, padding: Pair) -> Array:
  """[N, kh * kw, c]: the sum of the pixels that each tap sees."""
  rows = seen_by_taps(x.shape[1], size[0], strides[0], padding[0])
  columns = seen_by_taps(x.shape[2], size[1], strides[1], padding[1])
  masks = np.einsum('ih,jw->ijhw', rows, columns).reshape(-1, *x.shape[1:3])
  # Masks and bfloat16 values are exact in one pass; of float32 values it would keep eight bits (TPU) or eleven (GPU).
  precision = None if x.dtype == jnp.bfloat16 else jax.lax.Precision.HIGHEST
  kind = at_least_float32(x.dtype)
  return jnp.einsum('thw,nhwc->ntc', jnp.asarray(masks, x.dtype), x, precision=precision, preferred_element_type=kind)


@dataclasses.dataclass(frozen=True)
class Descriptors:
  """What a block and its convolutions ask for; see `REFERENCE` and `FUSED`.

  Attributes:
    pool_before_conv: take the descriptor of a convolution's output from its input.
    carry: hand the descriptor of a sum to the next block.
    defer: take statistics and descriptor of a normalized convolution from the moments of each example, in training.
  """

  pool_before_conv: bool
  carry: bool
  defer: bool

  def of_conv(self, x: Array, y: Array, kernel: Array, strides: Pair, padding: Pair) -> Array:
    """The descriptor [N, C] of y = conv(x, kernel)."""
    return mean_of_conv(x, kernel, strides, padding) if self.pool_before_conv else mean_hw(y)

  def of_identity(self, x: Array, carried: Array | None) -> Array:
    """The descriptor [N, C] of an identity that is not projected: the carried one if there is one."""
    return mean_hw(x) if carried is None else carried

  def of_sum(self, v: Array, scale: Array, u: Array) -> Array | None:
    """The descriptor of identity + scale * residual for the next block, or None: that one pools."""
    return v + scale * u if self.carry else None


REFERENCE = Descriptors(pool_before_conv=False, carry=False, defer=False)
FUSED = Descriptors(pool_before_conv=True, carry=True, defer=True)
