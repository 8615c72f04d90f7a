"""The state before the first step, which no device has seen."""

import jax
import numpy as np

from cmpe_jax import config as configuration
from cmpe_jax.training import optimizer, state


def test_the_first_state_is_what_the_optimizer_begins_with():
  params = {'stem': {'kernel': np.ones((3, 3, 3, 4), np.float32)}, 'classifier': {'bias': np.ones(5, np.float32)}}
  for keys in ({}, {'freeze': 1}, {'momentum': 0.0}, {'grad_clip_norm': 1.0, 'decay_parameters': 'all'}):
    config = configuration.base()
    config.update(keys)
    made = optimizer.make(config, lambda step: 0.1 * step)
    first = state.create({'params': params, 'batch_stats': {}}, made, ema=False)
    expected = made.init(params)
    assert jax.tree.structure(first.opt_state) == jax.tree.structure(expected)
    for found, wanted in zip(jax.tree.leaves(first.opt_state), jax.tree.leaves(expected), strict=True):
      np.testing.assert_array_equal(found, wanted)
      assert found.dtype == wanted.dtype
    assert first.step == 0
