"""What the labels of a class folder mean is what they meant in training, whatever happens to the folder."""

import re
import shutil

import jax
import numpy as np
import pytest
from harness import resolved
from PIL import Image

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.data import classes
from cmpe_jax.errors import UserError
from cmpe_jax.training import initial, trained, warm_start
from cmpe_jax.training.evaluate import evaluate


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A folder of three classes, and the workdir of a run on it."""
  root = tmp_path_factory.mktemp('classes')
  random = np.random.default_rng(0)
  for name in ('cat', 'dog', 'eel', 'spare/ant'):
    (root / 'pets' / name).mkdir(parents=True) if '/' not in name else (root / name).mkdir(parents=True)
    for number in range(5):
      place = root / name if '/' in name else root / 'pets' / name
      Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(place / f'{number}.png')
  cmpe_jax.train(make(root), str(root / 'run'))
  return root


def make(root, **keys):
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'none'})
  config.update({'dataset': f'folder:{root}/pets', 'image_size': 8, 'batch_size': 8, 'epochs': 1.0, **keys})
  return config


@pytest.fixture
def pets(run, tmp_path):
  """A copy of both that a test may change."""
  shutil.copytree(run, tmp_path / 'copy')
  return tmp_path / 'copy'


def started(config):
  """The report of what a run takes from `init_from`."""
  config = resolved(config)
  variables = models.init(models.build(config.model), jax.random.key(0), config.image_size)
  return warm_start.load(config, variables)[1]


def rename(pets):
  (pets / 'pets' / 'cat').rename(pets / 'pets' / 'zebra')


def add(pets):
  shutil.copytree(pets / 'spare' / 'ant', pets / 'pets' / 'ant')


@pytest.mark.parametrize(('change', 'said'), [(add, '1 new (ant)'), (rename, '1 gone (cat), 1 new (zebra)')])
def test_other_classes_are_neither_trained_on_nor_tested_and_what_was_trained_keeps_its_names(run, pets, change, said):
  saved = str(pets / 'run')
  assert trained.open_run(saved).names == ('cat', 'dog', 'eel')
  change(pets)
  # The run began where the folder still is as it was: by its copy here it knows the other one.
  told = re.escape(f"dataset='folder:{pets}/pets' has other classes than when the run began: {said}. Make them as")
  with pytest.raises(UserError, match=told):
    cmpe_jax.train(make(pets, epochs=2.0), saved)
  with pytest.raises(UserError, match=told):
    evaluate(make(pets), saved)
  (run / 'pets').rename(run / 'away')
  shutil.copytree(pets / 'pets', run / 'pets')
  try:
    network = trained.open_run(saved)
    assert network.names == network.dataset.class_names == ('cat', 'dog', 'eel')
    with pytest.raises(UserError, match='has other classes here than the weights'):
      network.dataset.content.labels('test')
  finally:
    shutil.rmtree(run / 'pets')
    (run / 'away').rename(run / 'pets')
  assert 'new: 2 arrays' in started(make(pets, init_from=saved))


def test_a_folder_that_has_moved_keeps_the_classifier(run, pets):
  assert 'new: 0 arrays' in started(make(pets, init_from=str(run / 'run')))


def test_classes_are_compared_by_what_is_different():
  many = [f'species_{number:04}' for number in range(100)]
  classes.check((), many, 'x')
  classes.check(['cafe\u0301', 'chat'], ['caf\u00e9', 'chat'], 'x')  # an accent, written in the two ways
  for now, said in (
    ([*many, 'new'], r'began: 1 new \(new\)\. Make'),
    (many[11:], r'began: 11 gone \(species_0000, .*, species_0009, \.\.\.\)\. Make'),
    (many[::-1], r'began: they are in another order\. Make'),
  ):
    with pytest.raises(UserError, match=said):
      classes.check(many, now, 'x')


def test_where_the_names_are_not_known_their_number_has_to_fit(pets):
  config = resolved(make(pets))
  initial.write(str(pets / 'old'), config, models.init(models.build(config.model), jax.random.key(0), 8))
  assert trained.open_run(str(pets / 'old')).names == ('cat', 'dog', 'eel')
  add(pets)
  with pytest.raises(UserError, match=r'has 4 classes now, and the network in .*old 3: make them as they were'):
    trained.open_run(str(pets / 'old'))
