import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from cmpe_jax.training import objective


def test_cross_entropy_with_smoothing_against_the_closed_form():
  logits = np.random.default_rng(0).normal(size=(5, 4))
  labels = np.array([0, 3, 1, 1, 2])
  log_p = logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)
  for smoothing in (0.0, 0.1):
    want = -(1 - smoothing) * log_p[np.arange(5), labels] - smoothing * log_p.mean(1)
    got = objective.cross_entropy(jnp.asarray(logits), objective.targets(jnp.asarray(labels), 4), smoothing)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_mix_pairs_each_row_with_the_one_before():
  x = jnp.arange(8.0).reshape(4, 2)
  got = objective.mix(x, jnp.float32(0.75))
  for i in range(4):
    np.testing.assert_allclose(got[i], 0.75 * x[i] + 0.25 * x[i - 1])


def test_mix_weight_follows_the_beta_distribution():
  keys = jax.random.split(jax.random.key(0), 4000)
  for alpha in (0.2, 1.0):
    weights = np.asarray(jax.vmap(lambda key, a=alpha: objective.mix_weight(key, a))(keys))
    assert scipy.stats.kstest(weights, scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_correct_gives_the_target_weight_of_the_largest_logit():
  logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
  target = jnp.array([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]])
  np.testing.assert_allclose(objective.correct(logits, target), [0.7, 0.0])


def test_in_top_counts_the_k_largest():
  logits = jnp.array([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]] * 3)
  assert objective.in_top(logits, jnp.array([0, 4, 5]), 5).tolist() == [True, True, False]
