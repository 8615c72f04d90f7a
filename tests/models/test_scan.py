"""Blocks in a loop and blocks that are computed again: the numbers, the variables and the checkpoints stay the same."""

import re

import chex
import jax
import numpy as np
import pytest
from harness import dataset_of, materialize

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training import checkpoint, initial, optimizer, randomness, state, step
from cmpe_jax.training.train import train

SIDE, CLASSES, BATCH = 8, 4, 16
DATASET = dataset_of('abcd', SIDE)


def examples(count=128):
  """Noise over a pattern of the class, so that there is something to learn."""
  rng = np.random.default_rng(0)
  labels = rng.integers(0, CLASSES, count).astype(np.int32)
  patterns = rng.uniform(80, 176, (CLASSES, SIDE, SIDE, 3))
  images = np.clip(patterns[labels] + rng.normal(0, 30, (count, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
  return {'image': images, 'label': labels, 'mask': np.ones(count, bool), 'index': np.arange(count, dtype=np.int32)}


def config_of(gate, block, preact, **keys):
  config = configuration.base()
  config.model.update({'gate': gate, 'block': block, 'num_classes': CLASSES})
  config.model.update(
    {'backbone': 'resnet', 'depth': 20 if block == 'basic' else 29}
    if preact
    else {'backbone': 'imagenet_resnet', 'depth': 34 if block == 'basic' else 50, 'preact': False}
  )
  config.update({'batch_size': BATCH, 'schedule': 'constant', 'learning_rate': 0.05, 'dtype': 'float64'})
  for key, value in keys.items():
    (config.model if key in config.model else config)[key] = value
  return config


def network(config):
  """A small net of that kind: a stage of one block and one of three, of which two are in the loop."""
  model = models.of_run(config)
  return model.clone(stem='small', stage_sizes=(1, 3), base_widths=(16, 32), columns=(16, 16))


def begin(config, devices=1):
  """The state before the first step, and `advance(state, first, count) -> (state, losses)`."""
  mesh, model, rate = meshes.make(jax.devices()[:devices]), network(config), optimizer.learning_rate(config, 100)
  transformation = optimizer.make(config, rate)
  resident = meshes.replicate(examples(), mesh)
  steps = step.Steps(config, model, DATASET)
  call = step.compile_train(steps.train(transformation, rate, unroll=False), materialize, mesh)
  variables = models.init(model, randomness.key(0, randomness.INIT, 0), SIDE)
  start = state.create(meshes.replicate(variables, mesh), transformation, config.ema_decay > 0)

  def advance(current, first, count):
    losses = []
    for i in range(first, first + count):
      rows = (BATCH * i + np.arange(BATCH, dtype=np.int32)[None]) % 128
      drawn = jax.device_put(rows, meshes.batch_sharding(mesh, leading=1))
      current, metrics = call(current, resident, drawn)
      losses.append(float(metrics['loss'][0][0]) / BATCH)
    return current, losses

  return meshes.replicate(start, mesh), advance


FORMS = {
  'scan': {'scan_blocks': True},
  'remat': {'remat': True},
  'scan-remat': {'scan_blocks': True, 'remat': True},
}
EVERYTHING = {'dropout': 0.3, 'accumulate_steps': 2, 'bn_group_size': 4, 'ema_decay': 0.9, 'mixup_alpha': 1.0}
CASES = {
  'pre-basic': ('pair_1x1', 'basic', True, EVERYTHING),
  'pre-bottleneck': ('none', 'bottleneck', True, {'bn_group_size': 8}),
  'pre-bottleneck-plain': ('pair_2x1', 'bottleneck', True, {'gate_form': 'reference'}),
  'post-basic': ('double_fc', 'basic', False, EVERYTHING | {'dropout': 0.0}),
  'post-bottleneck': ('folded_3x3', 'bottleneck', False, {}),
}


def pairs():
  for case in CASES:
    for form in FORMS:
      quick = (case, form) == ('pre-basic', 'scan-remat')
      yield pytest.param(case, form, id=f'{case}-{form}', marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize(('case', 'form'), list(pairs()))
def test_ten_steps_are_equal_in_float64_and_the_form_may_change_between_them(case, form):
  *kind, keys = CASES[case]
  with jax.enable_x64(True):
    start, advance = begin(config_of(*kind, **keys))
    half, losses = advance(start, 0, 5)
    kept = jax.device_get(half)
    end, more = advance(half, 5, 5)
    start, other = begin(config_of(*kind, **{**keys, **FORMS[form]}), devices=1 if case == 'pre-basic' else 2)
    its_half, its_losses = other(start, 0, 5)
    jax.block_until_ready(its_half)
    chex.assert_trees_all_close(jax.device_get(its_half), kept, rtol=0, atol=1e-10)
    its_end, its_more = other(its_half, 5, 5)
    np.testing.assert_allclose(its_losses + its_more, losses + more, rtol=0, atol=1e-10)
    chex.assert_trees_all_close(jax.device_get(its_end), jax.device_get(end), rtol=0, atol=1e-10)
    mesh = its_end.step.sharding.mesh
    _, crossed = other(meshes.replicate(kept, mesh), 5, 5)  # begun in one form, continued in the other
    np.testing.assert_allclose(crossed, more, rtol=0, atol=1e-10)
  assert more[-1] < losses[0]


def gradients(model, variables, images):
  """Loss, (statistics and what was sown), gradient."""

  def loss(params):
    logits, updated = model.apply(
      {**variables, 'params': params}, images, train=True, mutable=['batch_stats', 'intermediates']
    )
    return jax.nn.log_softmax(logits)[:, 0].mean(), updated

  return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])


@pytest.mark.parametrize('frozen', [0, pytest.param(1, marks=pytest.mark.slow)])
def test_gradient_statistics_and_what_is_sown_of_a_post_activation_net(frozen):
  images = np.random.default_rng(0).normal(size=(4, SIDE, SIDE, 3))
  found = {}
  with jax.enable_x64(True):
    for name, keys in {'': {}, **FORMS}.items():
      if name in ('', 'scan-remat') or frozen:
        config = config_of('pair_1x1', 'basic', False, freeze=frozen, **keys)
        model = network(config).clone(stage_sizes=(3, 1) if frozen else (4,), base_widths=(16, 32)[: 1 + frozen])
        variables = models.init(model, jax.random.key(0), SIDE)
        found[name] = jax.device_get(gradients(model, variables, images))
  for name, got in found.items():
    chex.assert_trees_all_close(got, found[''], rtol=0, atol=1e-12)
    assert set(got[0][1]['intermediates']['stage1_block2']['gate']) == {'map', 'filtered_map'}, name
  gradient, moved = found['scan-remat'][1], found['scan-remat'][0][1]['batch_stats']
  still = np.all(moved['stage1_block2']['bn1']['mean'] == variables['batch_stats']['stage1_block2']['bn1']['mean'])
  assert still == bool(frozen)
  assert (np.abs(gradient['stage1_block2']['conv1']['kernel']).max() == 0) == bool(frozen)


def test_the_program_has_the_loop_and_one_block_for_each_of_its_rounds():
  images = jax.ShapeDtypeStruct((2, 32, 32, 3), np.float32)
  programs = {}
  for looped in (False, True):
    config = configuration.base()
    config.model.update({'depth': 164, 'num_classes': 10, 'scan_blocks': looped})
    model = models.build(config.model)
    variables = jax.eval_shape(lambda x, model=model: model.init(jax.random.key(0), x), images)
    variables = {name: variables[name] for name in ('params', 'batch_stats')}
    programs[looped] = str(jax.make_jaxpr(lambda v, x, model=model: model.apply(v, x))(variables, images))
  convolutions = {looped: len(re.findall(r'window_strides=\(\d, \d\)', text)) for looped, text in programs.items()}
  assert convolutions == {False: 1 + 3 * (18 * 3 + 1), True: 1 + 3 * (2 * 3 + 1)}
  assert programs[True].count('length=17') == 3


@pytest.mark.parametrize('preact', [pytest.param(True, marks=pytest.mark.slow), False])
def test_bfloat16_and_float32_begin_alike_and_both_learn(preact):
  first = {}
  for dtype in ('float32', 'bfloat16'):
    config = config_of('pair_1x1', 'bottleneck', preact, dtype=dtype, scan_blocks=preact, remat=not preact)
    _, losses = (lambda start, advance: advance(start, 0, 30))(*begin(config))
    first[dtype] = losses[0]
    assert np.mean(losses[-5:]) < 0.5 * losses[0], dtype
  assert first['bfloat16'] == pytest.approx(first['float32'], rel=0.01)
  assert first['bfloat16'] != first['float32']


def test_a_loaded_network_has_its_blocks_one_by_one(tmp_path):
  config = configuration.base()
  config.model.update({'depth': 20, 'block': 'basic', 'num_classes': 10, 'scan_blocks': True})
  variables = models.init(models.build(config.model), jax.random.key(0), 32)
  initial.write(str(tmp_path), config, variables)
  model, loaded, _ = cmpe_jax.load_model(str(tmp_path))
  assert not model.scan_blocks
  chex.assert_trees_all_equal(jax.device_get(loaded), variables)


@pytest.mark.slow
def test_a_run_goes_on_in_the_other_form_from_its_checkpoint(tmp_path):
  def run(workdir, epochs, **forms):
    config = configuration.base()
    config.model.update({'block': 'basic', 'depth': 20, 'gate': 'se', 'scan_blocks': forms.get('scan_blocks', False)})
    config.update({'batch_size': 256, 'epochs': epochs, 'schedule': 'constant', 'dtype': 'float64'})
    config.remat = forms.get('remat', False)
    train(config, str(tmp_path / workdir))
    saved = checkpoint.Checkpoints(str(tmp_path / workdir))
    arrays = saved.arrays(saved.choose('newest'))
    saved.close()
    return arrays

  with jax.enable_x64(True):
    whole = run('whole', 2.0)
    looped = run('looped', 1.0, scan_blocks=True)
    assert looped.keys() == whole.keys()
    crossed = run('looped', 2.0)
    run('reference', 1.0)
    back = run('reference', 2.0, **FORMS['scan-remat'])
  for got in (crossed, back):
    for name, value in whole.items():
      np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-10, err_msg=name)
