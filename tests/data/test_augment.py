"""Augmentation inside jit, against windows cut out with NumPy."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import dataset_of

from cmpe_jax.data import augment


def describe(augmentation: str, size: int = 16, mean: float = 0.0, std: float = 1 / 255):
  """With mean 0 and std 1/255 the normalised image is the uint8 image."""
  return dataset_of('0123456789', size, mean, std, augmentation)


def batch_of(indices: np.ndarray, size: int = 16) -> dict[str, jax.Array]:
  """Noise whose every window is unique; example i has its own picture."""
  images = np.stack([np.random.default_rng(int(i)).integers(1, 256, (size, size, 3), np.uint8) for i in indices])
  return {'image': jnp.asarray(images), 'index': jnp.asarray(indices, jnp.int32)}


def windows(image: np.ndarray, padding: int) -> dict[bytes, tuple[int, int, bool]]:
  size = image.shape[0]
  padded = np.zeros((size + 2 * padding, size + 2 * padding, 3), np.uint8)
  padded[padding : padding + size, padding : padding + size] = image
  found = {}
  for top in range(2 * padding + 1):
    for left in range(2 * padding + 1):
      window = padded[top : top + size, left : left + size]
      found[window.tobytes()] = (top, left, False)
      found[window[:, ::-1].tobytes()] = (top, left, True)
  return found


@pytest.mark.parametrize('augmentation', ['none', 'crop', 'crop_flip'])
def test_every_result_is_a_window(augmentation):
  """Pad an eighth (2 of 16) and crop: all 25 places and both mirrors appear, evenly (chi-square, 99.9%)."""
  info, indices = describe(augmentation), np.zeros(1, int)
  batch = batch_of(indices)
  places = windows(np.asarray(batch['image'][0]), 2)
  many = {'image': jnp.repeat(batch['image'], 2000, 0), 'index': jnp.arange(2000, dtype=jnp.int32)}
  results = np.asarray(jax.jit(lambda b, k: augment.train(b, k, info, jnp.float32))(many, jax.random.key(0)))
  chosen = collections.Counter(places[np.rint(result).astype(np.uint8).tobytes()] for result in results)
  kinds = {'none': 1, 'crop': 25, 'crop_flip': 50}[augmentation]
  assert len(chosen) == kinds
  expected = 2000 / kinds
  limit = {1: 0.1, 25: 51.2, 50: 85.4}[kinds]
  assert sum((count - expected) ** 2 / expected for count in chosen.values()) < limit
  if augmentation == 'none':
    assert set(chosen) == {(2, 2, False)}
  if augmentation == 'crop':
    assert not any(mirrored for _, _, mirrored in chosen)


def test_follows_the_example_not_its_place():
  info, indices = describe('crop_flip'), np.arange(12)
  key = jax.random.key(3)
  whole = np.asarray(augment.train(batch_of(indices), key, info, jnp.float32))
  turned = np.asarray(augment.train(batch_of(indices[::-1]), key, info, jnp.float32))
  np.testing.assert_array_equal(whole, turned[::-1])
  other = np.asarray(augment.train(batch_of(indices), jax.random.key(4), info, jnp.float32))
  assert (whole != other).any((1, 2, 3)).sum() > 6


def test_same_crops_in_every_precision():
  info, batch = describe('crop_flip'), batch_of(np.arange(8))
  single = np.asarray(augment.train(batch, jax.random.key(0), info, jnp.float32))
  with jax.enable_x64(True):
    double = np.asarray(augment.train(batch, jax.random.key(0), info, jnp.float64))
  assert double.dtype == np.float64
  np.testing.assert_allclose(single, double, rtol=1e-6, atol=1e-4)


def test_normalisation():
  info = describe('none', mean=0.25, std=0.5)
  pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
  expected = (pixels / 255 - 0.25) / 0.5
  result = augment.evaluate({'image': jnp.asarray(pixels)}, info, jnp.float32)
  np.testing.assert_allclose(result, expected, atol=1e-6)
  half = augment.evaluate({'image': jnp.asarray(pixels)}, info, jnp.bfloat16)
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype(jnp.float32), expected, atol=2**-8)
