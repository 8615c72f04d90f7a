"""Fine-tuning a network of the digits on a folder of three colours."""

import shutil

import jax
import numpy as np
import pytest
from harness import resolved
from PIL import Image

from cmpe_jax import config as configuration
from cmpe_jax import load_model, models, save_pretrained
from cmpe_jax.errors import UserError
from cmpe_jax.training import initial, optimizer, pretrained, warm_start
from cmpe_jax.training.train import train


def named(variables):
  flat, _ = jax.tree_util.tree_flatten_with_path(variables)
  return {'/'.join(part.key for part in path): np.asarray(leaf) for path, leaf in flat}


@pytest.fixture(scope='module')
def colours(tmp_path_factory):
  root = tmp_path_factory.mktemp('colours')
  generator = np.random.default_rng(0)
  for channel, name in enumerate(('red', 'green', 'blue')):
    (root / name).mkdir()
    for number in range(10):
      pixels = generator.integers(0, 60, (16, 16, 3)).astype(np.uint8)
      pixels[..., channel] += 150
      Image.fromarray(pixels).save(root / name / f'{number}.png')
  return root


@pytest.fixture(scope='module')
def digits_run(tmp_path_factory):
  """A run on digits that was not trained, but has other weights than a new one, and its variables."""
  workdir = str(tmp_path_factory.mktemp('digits'))
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'se'})
  config = resolved(config)
  variables = models.init(models.build(config.model), jax.random.key(42), config.image_size)
  variables = jax.tree.map(lambda x: (x + 0.01).astype(np.float32), variables)
  initial.write(workdir, config, variables)
  return workdir, named(variables)


@pytest.fixture
def config(colours, digits_run):
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'se'})
  config.update({'dataset': f'folder:{colours}', 'image_size': 16, 'augmentation': 'none', 'init_from': digits_run[0]})
  config.update(
    {
      'batch_size': 8,
      'epochs': 10.0,
      'learning_rate': 0.05,
      'decay_fractions': (),
      'log_every_steps': 30,
      'eval_every_steps': 30,
    }
  )
  return config


def started(config):
  """Initial variables, those that the run starts from, and what it says of them."""
  config = resolved(config)
  variables = models.init(models.build(config.model), jax.random.key(0), config.image_size)
  loaded, report = warm_start.load(config, variables)
  return named(variables), named(loaded), report


def test_all_but_the_head_comes_from_the_other_run(config, digits_run):
  initial, found, said = started(config)
  for name, value in found.items():
    head = name.startswith('params/classifier')
    np.testing.assert_array_equal(value, initial[name] if head else digits_run[1][name])
  assert found['params/classifier/kernel'].shape == (64, 3)
  assert 'new: 2 arrays, 195 values\n  params/classifier/bias\n  params/classifier/kernel\n' in said
  assert 'skipped: 2 arrays, 650 values' in said
  assert f'loaded: {len(found) - 2} arrays' in said
  assert '  params/stage*_block*/gate/excite/kernel (3)' in said


def test_another_gate_starts_new(config, digits_run):
  config.model.gate = 'pair_1x1'
  initial, found, _ = started(config)
  gates = {name for name in found if '/gate/' in name}
  assert len(gates) == 3 * 7
  for name, value in found.items():
    new = name in gates or name.startswith('params/classifier')
    np.testing.assert_array_equal(value, initial[name] if new else digits_run[1][name])


def test_the_head_is_kept_on_the_same_dataset(config, digits_run):
  config.update({'dataset': 'digits', 'image_size': 0})
  _, found, _ = started(config)
  for name, value in found.items():
    np.testing.assert_array_equal(value, digits_run[1][name])


def test_another_backbone_is_an_error_that_lists_the_differences(config):
  config.model.depth = 14
  with pytest.raises(UserError) as raised:
    started(config)
  assert '  - params/stage1_block1/conv1/kernel [3, 3, 16, 16] (missing there)' in str(raised.value)
  config.model.update({'backbone': 'wide_resnet', 'depth': 10, 'width': 2})
  with pytest.raises(UserError) as raised:
    started(config)
  assert '  params/stage1_block0/conv1/kernel: [3, 3, 16, 16] there, [3, 3, 16, 32] here' in str(raised.value)
  assert '  - params/stem_bn/scale [16] (missing there)' in str(raised.value)
  config.init_from = 'nowhere'
  with pytest.raises(UserError, match="no weights 'nowhere': give a workdir with checkpoints, one of cifar10"):
    started(config)


def test_the_weights_that_come_with_the_package_start_a_run(config):
  config.model.update({'block': 'bottleneck', 'depth': 20, 'gate': 'pair_1x1'})
  config.init_from = 'digits'
  initial, found, said = started(config)
  theirs = named(pretrained.read(pretrained.find('digits')).variables)
  for name, value in found.items():
    np.testing.assert_array_equal(value, (initial if name.startswith('params/classifier') else theirs)[name])
  assert 'these weights were trained with (0.305, 0.305, 0.305) and (0.376, 0.376, 0.376)' in said
  config.update({'pixel_mean': (0.305,) * 3, 'pixel_std': (0.376,) * 3})
  assert 'these weights were trained with' not in started(config)[2]
  config.update({'dataset': 'digits', 'image_size': 0})
  _, found, _ = started(config)
  for name, value in found.items():
    np.testing.assert_array_equal(value, theirs[name])


def test_a_classifier_travels_to_a_folder_with_the_same_classes(config, colours, digits_run, tmp_path):
  """The weights do not know where the folder was."""
  config.init_from = ''
  here = resolved(config)
  variables = models.init(models.build(here.model), jax.random.key(3), 16)
  initial.write(str(tmp_path / 'run'), here, variables)
  save_pretrained(str(tmp_path / 'run'), str(tmp_path / 'saved'))
  config.init_from = str(tmp_path / 'saved')
  for name, value in started(config)[1].items():
    np.testing.assert_array_equal(value, named(variables)[name])
  shutil.copytree(colours, tmp_path / 'other')
  (tmp_path / 'other' / 'green').rename(tmp_path / 'other' / 'violet')
  config.dataset = f'folder:{tmp_path}/other'
  assert 'new: 2 arrays, 195 values\n  params/classifier/bias' in started(config)[2]


def test_frozen_stages_stay_bit_for_bit_and_the_rest_learns(config, digits_run, tmp_path, capsys):
  config.freeze = 2
  values = train(config, str(tmp_path))
  assert values['eval/accuracy'] == 1.0
  _, variables, _ = load_model(str(tmp_path))
  frozen = ('stem', 'input_bn', 'stage1_', 'stage2_')
  for name, value in named(variables).items():
    if name.split('/')[1].startswith(frozen):
      np.testing.assert_array_equal(value, digits_run[1][name], err_msg=name)
    elif not name.startswith('params/classifier'):
      assert np.abs(value - digits_run[1][name]).max() > 0, name
  assert 'frozen' in capsys.readouterr().out
  config.epochs = 11.0
  train(config, str(tmp_path))
  said = capsys.readouterr().out
  assert 'going on from the checkpoint' in said
  assert 'started from' not in said


def test_frozen_parameters_get_no_gradient_and_no_decay():
  config = configuration.base()
  config.freeze = 1
  params = {
    name: {'kernel': np.ones(2, np.float32)} for name in ('stem', 'stage1_block0', 'stage10_block0', 'classifier')
  }
  transformation = optimizer.make(config, lambda step: 0.1)
  updates, _ = transformation.update(params, transformation.init(params), params)
  moved = {name: bool(np.any(np.asarray(update['kernel']))) for name, update in updates.items()}
  assert moved == {'stem': False, 'stage1_block0': False, 'stage10_block0': True, 'classifier': True}


def test_more_stages_than_there_are():
  config = configuration.model()
  config.num_classes = 2
  with pytest.raises(UserError, match='freeze=4 is out of range: it must be from 0 to 3'):
    models.build(config, frozen_stages=4)
