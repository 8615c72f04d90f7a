"""Readers of a run that is training: it deletes the checkpoint that they have chosen."""

import contextlib
import shutil
import threading

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
from cmpe_jax.training import chosen, optimizer, saved, state
from cmpe_jax.training.checkpoint import Checkpoints
from cmpe_jax.training.saved import Damaged

SAVES = 15


def test_a_network_is_read_while_its_run_saves_and_deletes(tmp_path):
  config = configuration.base()
  config.model.update({'depth': 8, 'block': 'basic', 'gate': 'se', 'num_classes': 10})
  config.image_size = 8
  variables = models.init(models.build(config.model), jax.random.key(0), 8)
  first = state.create(variables, optimizer.make(config, lambda _: 0.1), ema=False)
  first = meshes.replicate(first, meshes.make(jax.devices()[:1]))
  failed = []

  def save():
    with contextlib.closing(Checkpoints(str(tmp_path), 1)) as checkpoints:
      for step in range(1, SAVES + 1):
        checkpoints.save(first.replace(step=jnp.int32(step)), config)
        checkpoints.wait()

  with contextlib.closing(Checkpoints(str(tmp_path), 1)) as checkpoints:
    checkpoints.save(first, config)
  run = threading.Thread(target=save)
  run.start()
  count = 0
  while run.is_alive():
    try:
      found = cmpe_jax.load_model(str(tmp_path), 'newest')[1]
      count += 1
    except Exception as error:
      failed.append(error)
  assert not failed
  assert count > 2
  jax.tree.map(np.testing.assert_array_equal, found, variables)

  # Whatever a reader meets where a checkpoint was a moment ago (Orbax looks twice: there, and no directory).
  gone = [FileNotFoundError(), NotADirectoryError(), Damaged(tmp_path / 'checkpoints' / '1', 'state is missing')]

  def meet(_, step):
    if gone:
      raise gone.pop()
    return step

  assert chosen.read(str(tmp_path), 'newest', meet) == SAVES
  gone += [FileNotFoundError('checkpoints/1')] * chosen.ATTEMPTS
  with pytest.raises(UserError, match=r'deleted what was read, 30 times \(the last: checkpoints/1\)'):
    chosen.read(str(tmp_path), 'newest', meet)

  (tmp_path / 'checkpoints' / str(SAVES) / 'state' / '_METADATA').write_text('{')  # damaged for good
  with pytest.raises(Damaged, match=f'checkpoints/{SAVES} is damaged'):
    cmpe_jax.load_model(str(tmp_path))


def test_a_run_that_replaces_its_only_checkpoint_always_has_one(tmp_path, monkeypatch):
  """Between the list of the folder and the look at each: the run ends writing 6, and does not keep 5 any more."""
  for name in ('5/state', '6.orbax-checkpoint-tmp/state'):
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / 'file').write_text('')
  look = saved._is_finished

  def look_late(path):
    if path.name == '5':
      (tmp_path / '6.orbax-checkpoint-tmp').rename(tmp_path / '6')
      shutil.rmtree(tmp_path / '5')
    return look(path)

  monkeypatch.setattr(saved, '_is_finished', look_late)
  assert saved.steps(epath.Path(tmp_path)) == [6]


def test_a_link_to_nowhere_is_no_checkpoint(tmp_path):
  (tmp_path / '5').symlink_to(tmp_path / 'nowhere')
  assert saved.steps(epath.Path(tmp_path)) == []
