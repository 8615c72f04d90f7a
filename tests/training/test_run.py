"""A run is put together once: what passes through it, and that all it opens is closed."""

import pathlib
import sys

import ml_collections
import numpy as np
import pytest
from PIL import Image

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax.data import resident, streamed
from cmpe_jax.data.datasets import folder
from cmpe_jax.errors import UserError
from cmpe_jax.training.console import Console
from cmpe_jax.training.writer import Writer

PACKAGE = pathlib.Path(cmpe_jax.__file__).parent
FILES = sorted(PACKAGE.rglob('*.py'))


def small(**keys):
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'pair_1x1'})
  config.update({'batch_size': 256, 'epochs': 0.35, 'log_every_steps': 1} | keys)
  return config


def test_a_configuration_visits_few_files_of_a_training_run(tmp_path, monkeypatch):
  """Every read of a key is noted with the file that reads it, in a run with an evaluation and a checkpoint."""
  visited = set()
  inside = {str(path): path.relative_to(PACKAGE) for path in FILES}

  def note(original):
    def read(self, name):
      file = sys._getframe(1).f_code.co_filename
      if file in inside and not str(name).startswith('_'):
        visited.add(str(inside[file]))
      return original(self, name)

    return read

  for method in ('__getattr__', '__getitem__'):
    monkeypatch.setattr(ml_collections.ConfigDict, method, note(getattr(ml_collections.ConfigDict, method)))
  cmpe_jax.train(small(), str(tmp_path))
  assert {'training/step.py', 'training/optimizer.py', 'models/builder.py'} <= visited
  assert len(visited) <= 12, sorted(visited)


def test_a_run_is_assembled_in_one_place():
  """The network of a run, its learning rate, its optimizer and its steps are asked for in one file."""
  parts = ('builder.of_run', 'optimizer.learning_rate', 'step.Steps', 'step.compile_train', 'meshes.check_batch')
  for part in parts:
    users = {str(path.relative_to(PACKAGE)) for path in FILES if f'{part}(' in path.read_text()}
    # The plan counts one micro-batch as a network of its own; a comparison checks that a variant can be built.
    assert users - {'tools/plan/command.py', 'tools/compare/cells.py'} == {'training/run.py'}, part


@pytest.fixture
def colours(tmp_path):
  """A class folder of 40 images."""
  for channel, name in enumerate(('red', 'green')):
    (tmp_path / 'images' / name).mkdir(parents=True)
    for number in range(20):
      pixels = np.random.default_rng(number).integers(0, 60, (16, 16, 3), np.uint8)
      pixels[..., channel] += 150
      Image.fromarray(pixels).save(tmp_path / 'images' / name / f'{number}.png')
  return tmp_path / 'images'


@pytest.mark.parametrize('megabytes', [2048, 0])
def test_a_class_folder_is_scanned_once_and_what_is_opened_is_closed(colours, tmp_path, monkeypatch, megabytes):
  scans, opened, closed = [], [], []

  def counted(kind, method, into):
    original = getattr(kind, method)

    def call(self, *arguments, **keywords):
      into.append(id(self))
      return original(self, *arguments, **keywords)

    monkeypatch.setattr(kind, method, call)

  original = folder.scan
  monkeypatch.setattr(folder, 'scan', lambda *arguments: scans.append(arguments) or original(*arguments))
  for kind in (resident.Resident, streamed.Streamed, Writer):
    counted(kind, '__init__', opened)
    counted(kind, 'close', closed)
  config = small(dataset=f'folder:{colours}', batch_size=8, epochs=2.0, resident_megabytes=megabytes, validation=0.25)
  cmpe_jax.train(config, str(tmp_path / 'run'))
  assert len(scans) == 1
  assert len(opened) == 4  # training, validation and test part, and the metrics
  assert sorted(opened) == sorted(closed)


def test_the_writer_is_closed_when_a_run_fails(tmp_path, monkeypatch):
  closed = []
  original = Writer.close
  monkeypatch.setattr(Writer, 'close', lambda self: closed.append(original(self)))
  with pytest.raises(ValueError, match='not finite'):
    cmpe_jax.train(small(learning_rate=1e30, epochs=1.0), str(tmp_path))
  assert closed == [None]


def test_a_program_follows_the_steps_of_a_run(tmp_path):
  seen = []
  with (tmp_path / 'log').open('w') as log:
    cmpe_jax.train(small(), str(tmp_path / 'run'), console=Console(log, lambda *step: seen.append(step)))
  assert seen == [(1, 2), (2, 2)]
  assert 'test accuracy' in (tmp_path / 'log').read_text()


@pytest.mark.parametrize(
  ('keys', 'profile', 'said'),
  [
    ({'epochs': 0.0}, None, 'epochs gives 0 steps, and there is no checkpoint to evaluate: raise it'),
    ({}, (100, 105), 'profile=100:105 is after the last step, 2: give earlier steps'),
    ({'seed': 2**32}, None, 'seed=4294967296 is out of range: it must be from 0 to 4294967295'),  # JAX would cut it
  ],
)
def test_what_would_do_nothing_is_said(tmp_path, keys, profile, said):
  with pytest.raises(UserError, match=said):
    cmpe_jax.train(small(**keys), str(tmp_path / 'run'), profile)
