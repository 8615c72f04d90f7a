"""The step on a small dense net (compiles in a second) and, for the layout, on a small CMPE net in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness import dataset_of, materialize

from cmpe_jax import config as configuration
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training import objective, optimizer, randomness, state, step
from cmpe_jax.training.run import assemble

SIZE, CLASSES = 4, 3


class Net(nn.Module):
  """Dense, batch normalization or not, dense."""

  num_classes: int = CLASSES
  norm: bool = True

  @nn.compact
  def __call__(self, x, train):
    x = nn.Dense(8)(x.reshape(len(x), -1))
    if self.norm:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    else:
      self.variable('batch_stats', 'unused', lambda: jnp.zeros(1))
    return nn.Dense(self.num_classes)(nn.relu(x))


DATASET = dataset_of('abc', SIZE)


def examples(count=64):
  rng = np.random.default_rng(0)
  return {
    'image': rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8),
    'label': rng.integers(0, CLASSES, count).astype(np.int32),
    'mask': np.ones(count, bool),
    'index': np.arange(count, dtype=np.int32),
  }


def setup(devices=1, norm=True, **keys):
  config = configuration.base()
  config.update({'batch_size': 16, 'schedule': 'constant', 'epochs': 1.0, **keys})
  mesh = meshes.make(jax.devices()[:devices])
  model = Net(norm=norm)
  rate = optimizer.learning_rate(config, 10)
  tx = optimizer.make(config, rate)
  variables = jax.device_get(model.init(jax.random.key(1), jnp.zeros((1, SIZE, SIZE, 3)), train=True))
  start = meshes.replicate(state.create(variables, tx, config.ema_decay > 0), mesh)
  resident = meshes.replicate(examples(), mesh)
  return config, model, start, jax.jit(step.Steps(config, model, DATASET).train(tx, rate)), resident, mesh


def draws(mesh, rows):
  return jax.device_put(np.asarray(rows, np.int32), meshes.batch_sharding(mesh, leading=1))


def losses(devices=1, steps=6, **keys):
  """Losses of single steps, and the final parameters."""
  _, _, current, train_step, resident, mesh = setup(devices, **keys)
  call = step.compile_train(train_step, materialize, mesh)
  found = []
  for i in range(steps):
    current, metrics = call(current, resident, draws(mesh, [np.arange(16) + 8 * i]))
    found.append(float(metrics['loss'][0][0] / metrics['loss'][1][0]))
  return np.array(found), jax.device_get(current)


def test_loss_and_gradient_of_one_step_against_optax_by_hand():
  _, model, start, train_step, _, _ = setup(weight_decay=0.0, momentum=0.0)
  batch = jax.tree.map(lambda x: jnp.asarray(x[:16]), examples())
  images = (batch['image'] / 255.0 - 0.5) / 0.25

  def loss(params):
    logits, _ = model.apply({**start.variables, 'params': params}, images, train=True, mutable=['batch_stats'])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch['label']).mean()

  value, gradient = jax.value_and_grad(loss)(start.params)
  after, metrics = train_step(start, batch)
  assert float(metrics['loss'][0]) / 16 == pytest.approx(float(value), rel=1e-5)
  want = jax.tree.map(lambda p, g: p - 0.1 * g, start.params, gradient)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, want)
  assert int(after.step) == 1
  assert float(metrics['learning_rate']) == pytest.approx(0.1)


def test_masked_rows_do_not_count():
  _, _, start, train_step, _, _ = setup(norm=False)
  batch = jax.tree.map(lambda x: jnp.asarray(x[:16]), examples())
  half = jax.tree.map(lambda x: x[:8], batch)
  masked = batch | {'mask': jnp.arange(16) < 8}
  (one, a), (two, b) = train_step(start, masked), train_step(start, half)
  assert int(a['loss'][1]) == 8
  assert float(a['loss'][0]) == pytest.approx(float(b['loss'][0]), rel=1e-6)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), one.params, two.params)


def test_several_steps_in_a_call_equal_single_ones():
  _, _, start, train_step, resident, mesh = setup(mixup_alpha=1.0)
  call = step.compile_train(train_step, materialize, mesh)
  rows = np.stack([np.arange(16) + 8 * i for i in range(4)])
  single, many = start, meshes.replicate(start, mesh)
  found = []
  for row in rows:
    single, metrics = call(single, resident, draws(mesh, [row]))
    found.append(metrics['loss'][0][0])
  many, metrics = call(many, resident, draws(mesh, rows))
  np.testing.assert_allclose(metrics['loss'][0], found, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), single.params, many.params)
  assert call._cache_size() == 2


def test_accumulation_equals_the_whole_batch_without_batch_statistics():
  whole, a = losses(norm=False)
  for devices in (1, 4):
    parts, b = losses(devices, norm=False, accumulate_steps=4)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a.params, b.params)


def test_accumulation_moves_the_running_statistics_with_each_part():
  _, whole = losses(steps=1)
  _, parts = losses(steps=1, accumulate_steps=2)
  _, model, start, _, _, _ = setup()
  images = (examples()['image'][:16] / np.float32(255) - 0.5) / 0.25
  variables = start.variables
  for part in range(2):
    _, updated = model.apply(variables, images[part::2], train=True, mutable=['batch_stats'])
    variables = {**variables, **updated}
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), parts.batch_stats, variables['batch_stats'])
  assert not np.allclose(whole.batch_stats['BatchNorm_0']['mean'], parts.batch_stats['BatchNorm_0']['mean'], atol=1e-4)


def test_moving_averages_follow_the_formula_and_leave_training_alone():
  _, plain = losses(steps=3)
  _, _, current, train_step, resident, mesh = setup(ema_decay=0.25)
  call = step.compile_train(train_step, materialize, mesh)
  average = jax.device_get(current.variables)
  for i in range(3):
    current, _ = call(current, resident, draws(mesh, [np.arange(16) + 8 * i]))
    d = min(0.25, (1 + i) / (10 + i))
    average = jax.tree.map(lambda a, x, d=d: d * a + (1 - d) * x, average, jax.device_get(current.variables))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), current.ema, average)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(current.params), plain.params)


def test_mixup_loss_is_the_mix_of_both_losses():
  config, model, start, train_step, _, _ = setup(mixup_alpha=0.4)
  batch = jax.tree.map(lambda x: jnp.asarray(x[:16]), examples())
  weight = float(objective.mix_weight(randomness.key(config.seed, randomness.MIXUP, 0), 0.4))
  images = (batch['image'] / 255.0 - 0.5) / 0.25
  mixed = weight * images + (1 - weight) * jnp.roll(images, 1, 0)
  logits, _ = model.apply(start.variables, mixed, train=True, mutable=['batch_stats'])
  each = optax.softmax_cross_entropy_with_integer_labels
  want = weight * each(logits, batch['label']) + (1 - weight) * each(logits, jnp.roll(batch['label'], 1))
  _, metrics = train_step(start, batch)
  assert float(metrics['loss'][0]) == pytest.approx(float(want.sum()), rel=1e-5)


def test_a_loss_or_gradient_that_is_not_finite_is_seen():
  _, _, start, train_step, _, _ = setup()
  batch = jax.tree.map(lambda x: jnp.asarray(x[:16]), examples())
  assert bool(train_step(start, batch)[1]['finite'])
  broken = start.replace(params=jax.tree.map(lambda x: x * jnp.nan, start.params))
  assert not bool(train_step(broken, batch)[1]['finite'])


def test_keys_differ_by_seed_purpose_and_step():
  keys = {
    tuple(jax.random.key_data(randomness.key(*which)).tolist())
    for which in ((0, 1, 5), (1, 1, 5), (0, 2, 5), (0, 1, 6))
  }
  assert len(keys) == 4


def test_evaluation_counts_only_the_mask():
  config, model, start, _, _, _ = setup()
  evaluate = step.Steps(config, model, DATASET).evaluate
  batch = jax.tree.map(lambda x: jnp.asarray(x[:16]), examples())
  whole = evaluate(start.variables, jax.tree.map(lambda x: x[:10], batch))
  padded = evaluate(start.variables, batch | {'mask': jnp.arange(16) < 10})
  for name in ('loss', 'accuracy', 'top5'):
    assert int(padded[name][1]) == 10
    assert float(padded[name][0]) == pytest.approx(float(whole[name][0]), rel=1e-6)
  assert float(whole['top5'][0]) == 10  # three classes: all are among the first three


def test_an_evaluation_takes_the_mean_of_both_images_logits():
  _, model, start, _, _, _ = setup()
  config = configuration.base()
  config.eval_flip = True
  batch = jax.tree.map(lambda x: jnp.asarray(x[:16]), examples())
  both = [(np.asarray(images) / 255.0 - 0.5) / 0.25 for images in (batch['image'], np.flip(batch['image'], 2))]
  one, other = (np.asarray(model.apply(start.variables, images, train=False), np.float64) for images in both)
  assert np.abs(one - other).max() > 0.1
  steps, mean = step.Steps(config, model, DATASET), (one + other) / 2
  np.testing.assert_allclose(steps.logits(start.variables, batch), mean, atol=1e-5)
  found = steps.evaluate(start.variables, batch)
  chosen = np.log(np.exp(mean).sum(1)) - mean[np.arange(16), batch['label']]
  assert float(found['loss'][0]) == pytest.approx(chosen.sum(), rel=1e-5)
  assert int(found['accuracy'][0]) == ((one + other).argmax(1) == np.asarray(batch['label'])).sum()  # of the sum, too


def train_digits(devices: int, dtype: str, steps: int, per_call: int = 1) -> np.ndarray:
  config = configuration.base()
  config.update({'batch_size': 64, 'dtype': dtype, 'mixup_alpha': 1.0})
  config.model.update({'block': 'basic', 'depth': 8})
  run = assemble(config, jax.devices()[:devices])
  source = run.open('train')
  call = run.train_call(source.materialize)
  current = meshes.replicate(run.state(run.variables()), run.mesh)
  found = []
  for drawn in source.train((i, per_call, 8) for i in range(0, steps, per_call)):
    current, metrics = call(current, source.resident, drawn)
    found.append(np.asarray(metrics['loss'][0]) / 64)
  return np.concatenate(found)


def test_one_two_and_eight_devices_and_several_steps_a_call_give_the_same_losses_in_float64():
  with jax.enable_x64(True):
    one, two, eight = (train_digits(devices, 'float64', 20) for devices in (1, 2, 8))
    grouped = train_digits(1, 'float64', 6, per_call=3)
  assert one[-1] < one[0]
  np.testing.assert_allclose(grouped, one[:6], rtol=0, atol=1e-10)
  np.testing.assert_allclose(two, one, rtol=0, atol=1e-10)
  np.testing.assert_allclose(eight, one, rtol=0, atol=1e-10)


def test_one_two_and_eight_devices_give_the_same_first_loss_in_float32():
  one, two, eight = (train_digits(devices, 'float32', 1) for devices in (1, 2, 8))
  np.testing.assert_allclose(two, one, rtol=0, atol=1e-6)
  np.testing.assert_allclose(eight, one, rtol=0, atol=1e-6)
