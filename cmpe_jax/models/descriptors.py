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
import math

import jax
import jax.numpy as jnp
import numpy as np

from cmpe_jax.models.precision import at_least_float32, of_products

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


def mean_of_conv(x: Array, kernel: Array, strides: Pair, padding: Pair, sums: Array | None = None) -> Array:
  """mean_HW(conv(x, kernel)) without the convolution.

  Args:
    x: [N, H, W, c], of any float type; sums are in at least float32.
    kernel: [kh, kw, c, C].
    strides: of the convolution.
    padding: zeros on each side, rows and columns.
    sums: [N, c], of the pixels that a 1x1 convolution sees, if they are known.

  Returns:
    [N, C], in at least float32.
  """
  kh, kw, _, features = kernel.shape
  outputs = positions(x.shape[1], kh, strides[0], padding[0]) * positions(x.shape[2], kw, strides[1], padding[1])
  if (kh, kw) == (1, 1) and padding == (0, 0):
    sums = (_sum_of_pixels(x, strides) if sums is None else sums)[:, None]
  else:
    sums = _sums_of_taps(x, (kh, kw), strides, padding)
  weights = kernel.astype(x.dtype).astype(sums.dtype).reshape(kh * kw, -1, features)
  return jnp.einsum('ntc,tcf->nf', sums / outputs, weights, precision=jax.lax.Precision.HIGHEST)


def _sum_of_pixels(x: Array, strides: Pair) -> Array:
  """[N, c]: the sum of every pixel, or of those that a strided 1x1 convolution sees.

  A TPU reads less memory through a product with a mask than through a slice. On a CPU the convolution has made the
  slice already, and the mask took twenty times as long in a whole network. On a GPU all pixels are summed, most of them
  as zeros, in the pass that writes x: see `_sums_of_taps`.
  """
  total = functools.partial(jnp.sum, axis=(1, 2), dtype=at_least_float32(x.dtype))
  if strides == (1, 1):
    return total(x)

  def of_slice(x: Array) -> Array:
    return total(x[:, :: strides[0], :: strides[1]])

  def of_taps(x: Array) -> Array:
    return _sums_of_taps(x, (1, 1), strides, (0, 0))[:, 0]

  return jax.lax.platform_dependent(x, cpu=of_slice, default=of_taps)


def _seen(size: Pair, strides: Pair) -> np.ndarray:
  """Which pixels a strided 1x1 convolution sees: [H, W, 1]."""
  return ((np.arange(size[0]) % strides[0] == 0)[:, None] & (np.arange(size[1]) % strides[1] == 0))[..., None]


def _sums_of_taps(x: Array, size: Pair, strides: Pair, padding: Pair) -> Array:
  """[N, kh * kw, c]: the sum of the pixels that each tap sees.

  It is a product with masks, except on a GPU, where that does not compile: no tiles are found for a result of
  [65536, 1] or of [16384, 9].
  """
  rows = seen_by_taps(x.shape[1], size[0], strides[0], padding[0])
  columns = seen_by_taps(x.shape[2], size[1], strides[1], padding[1])
  masks = np.einsum('ih,jw->ijhw', rows, columns).reshape(-1, *x.shape[1:3])
  of_all = functools.partial(masked_sums, masks=masks)
  return jax.lax.platform_dependent(
    x, cuda=of_all, rocm=of_all, default=functools.partial(products_with_masks, masks=masks)
  )


def products_with_masks(x: Array, masks: np.ndarray) -> Array:
  """[N, t, c] of [N, H, W, c] and 0/1 [t, H, W]: the sums over the pixels that each mask leaves, as one product."""
  # Masks and bfloat16 values are exact in one pass; of float32 values it would keep eight bits (TPU) or eleven (GPU).
  weights, kind = jnp.asarray(masks, x.dtype), at_least_float32(x.dtype)
  return jnp.einsum('thw,nhwc->ntc', weights, x, precision=of_products(x), preferred_element_type=kind)


def masked_sums(x: Array, masks: np.ndarray) -> Array:
  """The same, as sums over all pixels, of which a mask makes zeros."""
  seen = [jnp.where(mask[..., None] > 0, x, jnp.zeros((), x.dtype)) for mask in masks]
  return jnp.stack([jnp.sum(pixels, axis=(1, 2), dtype=at_least_float32(x.dtype)) for pixels in seen], axis=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def with_sums(x: Array, strides: Pair) -> tuple[Array, Array]:
  """x itself and `_sum_of_pixels(x, strides)`, whose gradient joins that of whatever else reads this x.

  It joins it in float32: an array of its own, of pixels that all are alike, is what a GPU's convolution would add.
  """
  return x, _sum_of_pixels(x, strides)


def _sums_forward(x: Array, strides: Pair) -> tuple[tuple[Array, Array], Pair]:
  return with_sums(x, strides), (x.shape[1], x.shape[2])


def _sums_backward(strides: Pair, size: Pair, gradients: tuple[Array, Array]) -> tuple[Array]:
  of_x, of_sums = gradients
  total = of_x.astype(of_sums.dtype) + jnp.where(_seen(size, strides), of_sums[:, None, None], 0)
  return (total.astype(of_x.dtype),)


with_sums.defvjp(_sums_forward, _sums_backward)


@dataclasses.dataclass(frozen=True)
class Descriptors:
  """What a block and its convolutions ask for; `cmpe_jax.models.forms` chooses.

  Attributes:
    pool_before_conv: take the descriptor of a convolution's output from its input.
    carry: hand the descriptor of a sum to the next block.
    defer: take statistics and descriptor of a normalized convolution from the moments of each example, in training.
    expand: the last convolution of a bottleneck is left to the sum of its block (`expansion.Expansion`).
    convolve: from how many channels a pixel of the map on it is a convolution there, which scales its output and is
      computed again for the gradient. Where there is less than one channel a pixel, it is a product with a kernel an
      example. In between it is not left to the sum.
    carry_relu: a block that ends in a ReLU takes its descriptor where it writes its output, and hands it on.
    settle: the sum of a pre-activation block is written in its own type, once its moments are taken.
    share_sums: the gradient of a sum of pixels joins that of the convolution (`with_sums`).
    merge_mean: the mean of a batch normalization is part of its offset (`norms.BatchNorm`).
    by_winners: the gradient of the stem's max-pooling (`pooling.max_pool`).
    fold: at inference a batch normalization goes into the kernel before it (`folding.Convolution`).
    apart: a projection is an array of its own, to which no convolution adds the residual.
  """

  pool_before_conv: bool
  carry: bool
  defer: bool
  expand: bool = False
  convolve: float = math.inf
  carry_relu: bool = False
  settle: bool = False
  share_sums: bool = False
  merge_mean: bool = False
  by_winners: bool = False
  fold: bool = False
  apart: bool = False

  def leaves_to_sum(self, x: Array, kernel: Array, strides: Pair) -> bool:
    """Whether a convolution of x, if it expands, is left to the sum of its block, as an `Expansion`.

    The kernels of all examples must be smaller than the map: stages 1 and 2 of a ResNet-50. An H100 would move 1.02
    (pre-activation) to 1.05 times the bytes with stage 3.
    """
    kh, kw, channels, features = kernel.shape
    expands = (kh, kw) == (1, 1) and strides == (1, 1) and features == 4 * channels
    return self.expand and expands and (channels <= x.shape[1] * x.shape[2] or self.convolves(x))

  def convolves(self, x: Array) -> bool:
    """Whether the `Expansion` of x is a convolution."""
    return x.shape[-1] >= self.convolve * x.shape[1] * x.shape[2]

  def summed(self, x: Array, strides: Pair) -> tuple[Array, Array | None]:
    """x, and the sums [N, c] of those of its pixels that a strided 1x1 convolution sees, or None."""
    return with_sums(x, strides) if self.share_sums else (x, None)

  def of_conv(
    self, x: Array, y: Array, kernel: Array, strides: Pair, padding: Pair, sums: Array | None = None
  ) -> Array:
    """The descriptor [N, C] of y = conv(x, kernel)."""
    return mean_of_conv(x, kernel, strides, padding, sums) if self.pool_before_conv else mean_hw(y)

  def of_identity(self, x: Array, carried: Array | None) -> Array:
    """The descriptor [N, C] of an identity that is not projected: the carried one if there is one."""
    return mean_hw(x) if carried is None else carried

  def projected(self, identity: Array) -> Array:
    """A projection as the sum of its block is to read it."""
    return jax.lax.optimization_barrier(identity) if self.apart else identity

  def of_sum(self, v: Array, scale: Array, u: Array) -> Array | None:
    """The descriptor of identity + scale * residual for the next block, or None: that one pools."""
    return v + scale * u if self.carry else None


REFERENCE = Descriptors(pool_before_conv=False, carry=False, defer=False)
FUSED = Descriptors(pool_before_conv=True, carry=True, defer=True)
