import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmpe_jax import config as configuration
from cmpe_jax import recipes
from cmpe_jax.errors import UserError
from cmpe_jax.training import optimizer


def make(**keys):
  config = configuration.base()
  config.update(keys)
  return config


def rates(config, total, steps):
  schedule = optimizer.learning_rate(config, total)
  return [float(schedule(step)) for step in steps]


def test_step_schedule_falls_at_the_fractions():
  got = rates(make(epochs=200.0), 1000, [0, 499, 500, 749, 750, 999])
  np.testing.assert_allclose(got, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)


def test_decay_epochs_count_from_the_start_of_the_run_even_after_a_warm_up():
  config = make(
    epochs=90.0,
    decay_fractions=(),
    decay_epochs=(30, 60, 80),
    warmup_epochs=5.0,
    learning_rate=0.1,
    learning_rate_batch_size=256,
    batch_size=1024,
  )
  got = rates(config, 900, [0, 25, 50, 299, 300, 600, 800])
  np.testing.assert_allclose(got, [0, 0.2, 0.4, 0.4, 0.04, 0.004, 0.0004], rtol=1e-5)


def test_schedules_after_a_warm_up_against_their_formulas():
  config = make(schedule='cosine', epochs=10.0, warmup_epochs=1.0, learning_rate=0.5)
  want = [0.5 * 0.5 * (1 + np.cos(np.pi * t / 90)) for t in (0, 45, 89)]
  np.testing.assert_allclose(rates(config, 100, [10, 55, 99]), want, atol=1e-7)
  triangle = make(schedule='linear', epochs=10.0, warmup_epochs=2.5, learning_rate=0.3)  # "one cycle"
  np.testing.assert_allclose(rates(triangle, 100, [0, 5, 25, 50, 99, 100]), [0, 0.06, 0.3, 0.2, 0.004, 0], atol=1e-7)
  assert rates(make(schedule='constant'), 100, [0, 99]) == pytest.approx([0.1, 0.1])


def test_linear_schedule_is_that_of_ffcv():
  """Its rate follows straight lines through (0, 1e-4 of the peak), (2 epochs, the peak), (16 epochs, 0)."""
  config = make(schedule='linear', epochs=16.0, warmup_epochs=2.0, warmup_start=1e-4, learning_rate=1.7)
  steps = np.arange(0, 1600, 7)
  want = np.interp(steps / 100, [0, 2, 16], [1.7e-4, 1.7, 0])
  np.testing.assert_allclose(rates(config, 1600, steps), want, atol=1e-6)


@pytest.mark.parametrize(
  ('keys', 'named'),
  [
    ({'decay_fractions': (0.5, 1.5)}, 'decay_fractions'),
    ({'decay_fractions': (0.75, 0.5)}, 'decay_fractions'),
    ({'decay_fractions': ('half',)}, r"decay_fractions=\('half',\) are not numbers"),
    ({'decay_fractions': (), 'decay_epochs': (30.0, 250.0)}, 'decay_epochs'),
    ({'warmup_epochs': 120.0}, 'warmup_epochs'),
    ({'schedule': 'cosine', 'warmup_epochs': 200.0}, 'warmup_epochs'),
  ],
)
def test_decay_points_outside_of_the_run_are_named(keys, named):
  with pytest.raises(UserError, match=named):
    optimizer.learning_rate(make(**keys), 1000)


def test_decay_points_are_rounded_up_to_whole_steps():
  """Half of 78,125 steps, the run of 200 epochs of CIFAR in batches of 128, is 39,062.5."""
  got = rates(make(), 78_125, [39_061, 39_062, 39_063, 58_593, 58_594])
  np.testing.assert_allclose(got, [0.1, 0.1, 0.01, 0.01, 0.001], rtol=1e-6)
  config = make(epochs=90.0, decay_fractions=(), decay_epochs=(30, 60, 80))
  np.testing.assert_allclose(rates(config, 900, [299, 300, 599, 600]), [0.1, 0.01, 0.01, 0.001], rtol=1e-5)


def test_decay_points_at_one_step_are_named():
  with pytest.raises(UserError, match=r'decay_fractions: 0\.5001 and 0\.51 fall on one step, 6 of 10'):
    optimizer.learning_rate(make(decay_fractions=(0.5001, 0.51, 0.9)), 10)
  with pytest.raises(UserError, match='decay_epochs: 31 and 32 fall on one step, 4 of 20'):
    optimizer.learning_rate(make(decay_fractions=(), decay_epochs=(31, 32)), 20)
  assert rates(make(), 1, [0]) == pytest.approx([0.1])  # a run of one step: none falls inside


def test_a_warm_up_begins_with_its_part_of_the_rate():
  """Goyal et al. 2017: from the base rate of 0.1 to k times as much, by a constant amount a step."""
  config = recipes.imagenet(50, 'none')
  assert rates(config, 900, [0, 25, 50]) == pytest.approx([0.0, 0.2, 0.4])
  config.warmup_start = 0.25
  assert rates(config, 900, [0, 25, 50]) == pytest.approx([0.1, 0.25, 0.4])


@pytest.mark.parametrize('schedule', ['constant', 'cosine', 'linear', 'step'])
def test_the_rate_is_in_the_precision_of_the_run(schedule):
  config = make(dtype='float64', schedule=schedule, epochs=10.0, warmup_epochs=3.0, learning_rate=0.1)
  with jax.enable_x64(True):
    rate = jax.jit(optimizer.learning_rate(config, 100))(jnp.int32(7))
    assert rate.dtype == jnp.float64
    assert float(rate) == pytest.approx(0.1 * 7 / 30, rel=1e-15)
  config.dtype = 'float32'
  assert jax.jit(optimizer.learning_rate(config, 100))(jnp.int32(7)).dtype == jnp.float32


PARAMS = {
  'conv': {'kernel': jnp.full((2, 2), 2.0)},
  'bn': {'scale': jnp.ones(2), 'bias': jnp.zeros(2)},
  'head': {'kernel': jnp.ones((2, 3)), 'bias': jnp.zeros(3)},
}


def test_decay_acts_on_kernels_only_or_on_all():
  assert optimizer.decay_mask(PARAMS, 'kernels') == {
    'conv': {'kernel': True},
    'bn': {'scale': False, 'bias': False},
    'head': {'kernel': True, 'bias': False},
  }
  table = optimizer.table(make(weight_decay=5e-4), PARAMS).splitlines()
  assert table[1].split() == ['0.0005', '2', '10']
  assert table[2].split() == ['none', '3', '7']
  assert optimizer.table(make(decay_parameters='all'), PARAMS).splitlines()[1].split() == ['0.0001', '5', '17']


def test_two_steps_of_nesterov_sgd_with_decay_and_clipping_against_the_formula():
  config = make(weight_decay=0.1, grad_clip_norm=1.0, learning_rate=0.5, momentum=0.9, schedule='constant')
  tx = optimizer.make(config, optimizer.learning_rate(config, 10))
  params = {'a': {'kernel': jnp.array([3.0, -1.0])}}
  state = tx.init(params)
  x, v = np.array([3.0, -1.0]), np.zeros(2)
  for gradient in ([3.0, 4.0], [0.1, 0.2]):
    updates, state = tx.update({'a': {'kernel': jnp.array(gradient)}}, state, params)
    params = {'a': {'kernel': params['a']['kernel'] + updates['a']['kernel']}}
    g = np.array(gradient) / max(1.0, np.linalg.norm(gradient)) + 0.1 * x
    v = 0.9 * v + g
    x = x - 0.5 * (g + 0.9 * v)
    np.testing.assert_allclose(params['a']['kernel'], x, rtol=1e-6)
