"""What happens to images on the device, inside jit: pad-crop, flip, normalise.

Every example has its own key, derived from the step's key and its index: the result does not depend on how the
batch lies on the devices.
"""

import jax
import jax.numpy as jnp

from cmpe_jax.data.datasets.dataset import Dataset
from cmpe_jax.data.source import Batch


def train(batch: Batch, key: jax.Array, dataset: Dataset, dtype: jnp.dtype) -> jax.Array:
  """Augmented and normalised images: uint8[B, H, W, 3] -> dtype[B, H, W, 3].

  `key` is the step's augmentation key. 'crop' pads with black by an eighth of the image's side (4 pixels of 32) and
  cuts the old size out at a random place; 'crop_flip' mirrors every second image besides (He et al. 2016).
  """
  images = batch['image']
  if dataset.augmentation in ('crop', 'crop_flip'):
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch['index'])
    padding = images.shape[1] // 8
    images = jax.vmap(lambda pixels, own: _crop(pixels, own, padding))(images, keys)
    if dataset.augmentation == 'crop_flip':
      flips = jax.vmap(lambda own: jax.random.bernoulli(jax.random.fold_in(own, 1), jnp.float32(0.5)))(keys)
      images = jnp.where(flips[:, None, None, None], images[:, :, ::-1], images)
  return _normalize(images, dataset, dtype)


def evaluate(batch: Batch, dataset: Dataset, dtype: jnp.dtype) -> jax.Array:
  """Normalised images: uint8[B, H, W, 3] -> dtype[B, H, W, 3]."""
  return _normalize(batch['image'], dataset, dtype)


def _crop(pixels: jax.Array, key: jax.Array, padding: int) -> jax.Array:
  top, left = jax.random.randint(jax.random.fold_in(key, 0), (2,), 0, 2 * padding + 1, jnp.int32)
  padded = jnp.pad(pixels, ((padding, padding), (padding, padding), (0, 0)))
  return jax.lax.dynamic_slice(padded, (top, left, jnp.int32(0)), pixels.shape)


def _normalize(images: jax.Array, dataset: Dataset, dtype: jnp.dtype) -> jax.Array:
  """(x / 255 - mean) / std as one multiplication and one addition, in at least float32; rounded to `dtype` last."""
  precise = jnp.promote_types(dtype, jnp.float32)
  mean, std = jnp.asarray(dataset.mean, precise), jnp.asarray(dataset.std, precise)
  return (images.astype(precise) * (1 / (255 * std)) - mean / std).astype(dtype)
