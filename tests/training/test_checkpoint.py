import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training import initial, optimizer, state
from cmpe_jax.training import saved as folders
from cmpe_jax.training.checkpoint import Checkpoints


def small_config():
  config = configuration.base()
  config.model.update({'depth': 8, 'block': 'basic', 'gate': 'se', 'num_classes': 10})
  config.image_size = 32
  return config


def some_state(scale=1.0, step=0, devices=8, width=4, ema=False):
  """A state that no model has, but with the real optimizer's tree."""
  mesh = meshes.make(jax.devices()[:devices])
  config = small_config()
  tx = optimizer.make(config, lambda _: 0.1)
  rng = np.random.default_rng(0)
  variables = {
    'params': {'a': {'kernel': scale * rng.normal(size=(3, width)).astype(np.float32)}},
    'batch_stats': {'bn': {'mean': scale * np.arange(3, dtype=np.float32)}},
  }
  new = state.create(meshes.replicate(variables, mesh), tx, ema)
  return meshes.replicate(new.replace(step=jnp.int32(step)), mesh)


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def test_what_is_saved_comes_back_bit_for_bit_on_another_number_of_devices(tmp_path):
  saved = some_state(step=7, ema=True)
  checkpoints = Checkpoints(str(tmp_path), 2)
  checkpoints.save(saved, small_config())
  checkpoints.wait()
  restored = checkpoints.restore(7, some_state(scale=0, devices=2, ema=True))
  equal(saved, restored)
  assert len(restored.params['a']['kernel'].sharding.device_set) == 2
  assert checkpoints.config(7).to_dict() == small_config().to_dict()
  checkpoints.close()


def test_saving_copies_before_the_buffers_are_donated(tmp_path):
  advance = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
  current = some_state(width=400_000)
  checkpoints = Checkpoints(str(tmp_path), 2)
  for _ in range(2):
    current = advance(current)
    want = np.array(current.params['a']['kernel'])
    checkpoints.save(current, small_config())
    current = advance(advance(current))
    step = int(current.step) - 2
    checkpoints.wait()
    np.testing.assert_array_equal(checkpoints.restore(step, current).params['a']['kernel'], want)
  checkpoints.close()


def test_newest_ones_and_the_best_are_kept(tmp_path):
  checkpoints = Checkpoints(str(tmp_path), 2, scored=True)
  for step, score in ((1, 0.5), (2, 0.9), (3, 0.9), (4, 0.8), (5, None), (6, 0.1)):
    checkpoints.save(some_state(step=step), small_config(), score)
  checkpoints.wait()
  assert checkpoints.steps() == [3, 5, 6]
  assert checkpoints.choose('best') == 3
  assert checkpoints.choose('newest') == 6
  checkpoints.close()
  read = Checkpoints(str(tmp_path))
  assert (read.choose('best'), read.choose('newest')) == (3, 6)
  read.close()
  again = Checkpoints(str(tmp_path), 2, scored=True)
  for step in (7, 8):
    again.save(some_state(step=step), small_config(), 0.2)
  again.close()
  assert again.steps() == [3, 7, 8]


def test_best_is_the_newest_where_nothing_was_scored(tmp_path):
  checkpoints = Checkpoints(str(tmp_path), 3)
  for step in (10, 20):
    checkpoints.save(some_state(step=step), small_config())
  checkpoints.wait()
  assert checkpoints.choose('best') == 20
  checkpoints.close()


def test_half_written_checkpoints_are_ignored_and_then_removed(tmp_path):
  checkpoints = Checkpoints(str(tmp_path), 3)
  checkpoints.save(some_state(step=10), small_config())
  checkpoints.close()
  place = tmp_path / 'checkpoints'
  (place / '20' / 'state').mkdir(parents=True)
  (place / '30.orbax-checkpoint-tmp' / 'state').mkdir(parents=True)
  read = Checkpoints(str(tmp_path))
  assert read.steps() == [10]
  read.close()
  again = Checkpoints(str(tmp_path), 3)
  assert again.choose('newest') == 10
  again.save(some_state(step=20), small_config())
  again.close()
  assert sorted(path.name for path in place.iterdir()) == ['10', '20']


def test_what_is_not_kept_any_more_is_deleted_under_another_name(tmp_path):
  """A kill while a checkpoint is deleted leaves none that looks damaged."""
  checkpoints, place = Checkpoints(str(tmp_path), 1), tmp_path / 'checkpoints'
  for step in (10, 20):
    checkpoints.save(some_state(step=step), small_config())
  checkpoints.close()  # as if the process ended here, before it waited
  assert sorted(path.name for path in place.iterdir()) == ['20', 'removed']
  assert folders.record(epath.Path(place / 'removed' / '10'))  # it is whole
  (place / 'removed' / '10' / 'config' / 'metadata').unlink()
  read = Checkpoints(str(tmp_path))
  assert read.steps() == [20]
  read.close()
  again = Checkpoints(str(tmp_path), 1)
  assert (again.steps(), again.put_aside) == ([20], [])
  again.save(some_state(step=30), small_config())
  again.wait()
  assert sorted(path.name for path in place.iterdir()) == ['30']
  again.close()


def test_a_damaged_configuration_is_named(tmp_path):
  checkpoints = Checkpoints(str(tmp_path), 2)
  checkpoints.save(some_state(step=10), small_config())
  checkpoints.wait()
  (tmp_path / 'checkpoints' / '10' / 'config' / 'metadata').write_text('{')
  with pytest.raises(UserError, match='checkpoints/10 is damaged .*remove it'):
    checkpoints.config(10)
  checkpoints.close()


def test_another_model_is_refused_with_a_list_of_what_differs(tmp_path):
  checkpoints = Checkpoints(str(tmp_path), 1)
  checkpoints.save(some_state(step=1, width=4), small_config())
  checkpoints.wait()
  with pytest.raises(UserError) as caught:
    checkpoints.restore(1, some_state(width=5, ema=True))
  text = str(caught.value)
  assert '- params/a/kernel float32[3, 4]' in text
  assert '+ params/a/kernel float32[3, 5]' in text
  assert '+ ema/params/a/kernel float32[3, 5]' in text
  assert 'batch_stats' not in text.replace('ema/batch_stats', '')
  like = some_state(width=4)
  with pytest.raises(UserError, match=r'bfloat16\[3, 4\]'):
    checkpoints.restore(1, like.replace(params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), like.params)))
  checkpoints.close()


def test_a_changed_config_is_refused_by_key():
  saved, now = small_config(), small_config()
  now.update({'learning_rate': 0.2, 'epochs': 7.0, 'log_every_steps': 1, 'decay_fractions': (0.6,)})
  now.model.gate = 'none'
  with pytest.raises(UserError) as caught:
    configuration.check_resumed(now, saved, 5)
  text = str(caught.value)
  assert 'learning_rate: 0.1 in the checkpoint, 0.2 now' in text
  assert "model.gate: 'se' in the checkpoint, 'none' now" in text
  assert 'decay_fractions' in text
  assert 'epochs' not in text
  assert 'log_every' not in text
  with pytest.raises(UserError, match='model.gate'):
    configuration.check_resumed(now, saved, 0)
  now.model.gate = 'se'
  configuration.check_resumed(now, saved, 0)


def test_nothing_there_says_so(tmp_path):
  with pytest.raises(UserError, match='no checkpoints'):
    Checkpoints(str(tmp_path / 'nowhere'))
  checkpoints = Checkpoints(str(tmp_path), 1)
  with pytest.raises(UserError, match='no complete checkpoint'):
    checkpoints.choose('newest')
  with pytest.raises(UserError, match="'best', 'newest'"):
    checkpoints.choose('latest')
  checkpoints.close()


def test_a_workdir_beneath_a_file_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot be written'):
    Checkpoints(str(tmp_path / 'file' / 'run'), 1)


def test_initial_weights_are_loaded_in_one_line(tmp_path):
  config = small_config()
  model = models.build(config.model)
  variables = models.init(model, jax.random.key(3), 32)
  initial.write(str(tmp_path), config, variables)
  loaded, found, its_config = cmpe_jax.load_model(str(tmp_path))
  equal(variables, found)
  assert its_config.to_dict() == config.to_dict()
  assert loaded == model
  with pytest.raises(UserError, match='already'):
    initial.write(str(tmp_path), config, variables)


def test_only_this_module_imports_orbax():
  package = pathlib.Path(cmpe_jax.__file__).parent
  users = [path.name for path in package.rglob('*.py') if re.search(r'^ *(import|from) orbax', path.read_text(), re.M)]
  assert users == ['checkpoint.py']
