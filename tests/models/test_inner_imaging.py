"""The image that the means of residual and identity make, and the moments of its patches."""

import jax.numpy as jnp
import numpy as np

from cmpe_jax.models import inner_imaging as imaging


def test_fold_follows_its_formula():
  """map[row, col] = (u if row is even else v) of channel (row // 2) * L + col."""
  channels, columns = 48, 16
  u, v = np.arange(2 * channels).reshape(2, channels), 1000 + np.arange(2 * channels).reshape(2, channels)
  folded = imaging.fold(jnp.asarray(u), jnp.asarray(v), columns)
  assert folded.shape == (2, 6, 16)
  for row in range(6):
    for column in range(16):
      source = v if row % 2 else u
      np.testing.assert_array_equal(folded[:, row, column], source[:, (row // 2) * columns + column])


def test_patch_moments_survive_a_large_mean():
  """A one-pass variance of these float32 patches would be noise: their mean is 1e4 times their deviation."""
  rng = np.random.default_rng(0)
  image = (1e4 + rng.normal(size=(1, 64, 8, 16))).astype(np.float32)
  mean, covariance = imaging.patch_moments(jnp.asarray(image), (3, 3))
  patches = np.stack([image[0, :, i : i + 6, j : j + 14].ravel() for i in range(3) for j in range(3)]).astype(
    np.float64
  )
  np.testing.assert_allclose(mean[0], patches.mean(1), rtol=1e-6)
  np.testing.assert_allclose(covariance[0], np.cov(patches, bias=True), atol=2e-3)
