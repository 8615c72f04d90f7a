"""Mean and deviation of the training images, against NumPy's."""

import contextlib
import json

import jax
import numpy as np
import pytest
from PIL import Image

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax.data import datasets, splits, statistics
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training import evaluate
from cmpe_jax.training.checkpoint import Checkpoints


@pytest.fixture
def folder(tmp_path):
  draw = np.random.default_rng(3)
  for name, level in (('a', 0), ('b', 90)):
    (tmp_path / 'images' / name).mkdir(parents=True)
    for number in range(15):
      pixels = draw.integers(0, 160, (20, 24, 3), np.uint8) + np.array([level, 0, 40], np.uint8)
      Image.fromarray(pixels).save(tmp_path / 'images' / name / f'{number}.png')
  return tmp_path / 'images'


def make(folder, **keys):
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'none'})
  config.update({'dataset': f'folder:{folder}', 'image_size': 16, 'batch_size': 8, 'epochs': 1.0})
  config.update({'pixel_statistics': 'own', **keys})
  return config


def numpys(config):
  """In float64, over the images of the training part."""
  content = datasets.describe(config).content
  pixels = content.arrays('train')[0].reshape(-1, 3) / 255.0
  return tuple(pixels.mean(0)), tuple(pixels.std(0))


@pytest.mark.parametrize('devices', [1, 8])
@pytest.mark.parametrize('resident', [0, 2048])
def test_they_are_numpys_on_the_device_and_streamed(folder, resident, devices):
  config = make(folder, resident_megabytes=resident)
  mesh = meshes.make(jax.devices()[:devices])
  with contextlib.closing(splits.open_split(config, datasets.describe(config), 'train', mesh)) as source:
    assert bool(source.resident) == bool(resident)
    found = statistics.measure(source, 8, print)
  for got, want in zip(found, numpys(config), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-13)


def test_sums_of_parts_are_those_of_the_whole():
  pixels = np.random.default_rng(0).integers(0, 256, (700, 4, 4, 3), np.uint8)
  parts = [
    statistics._add(iter([pixels[:300], pixels[300:310]]), 700, print),
    statistics._add(iter([pixels[310:]]), 700, print),
  ]
  mean, deviation = statistics.of_sums(parts)
  flat = pixels.reshape(-1, 3) / 255.0
  np.testing.assert_allclose((mean, deviation), (flat.mean(0), flat.std(0)), rtol=1e-13)
  with pytest.raises(UserError, match='pixel_statistics'):
    statistics.of_sums([statistics._add(iter([np.full((2, 2, 2, 3), 7, np.uint8)]), 2, print)])


def test_a_run_measures_them_once_and_everything_that_reads_it_uses_them(folder, tmp_path, capsys):
  config, workdir = make(folder, validation=0.2), str(tmp_path / 'run')
  cmpe_jax.train(config, workdir)
  said = capsys.readouterr().out
  with contextlib.closing(Checkpoints(workdir)) as found:
    saved = found.config(found.choose('newest'))
  run = evaluate.assemble(saved)
  with contextlib.closing(run.open('train')) as source:
    pixels = np.asarray(source.resident['image']).reshape(-1, 3) / 255.0
  np.testing.assert_allclose((saved.pixel_mean, saved.pixel_std), (pixels.mean(0), pixels.std(0)), rtol=1e-13)
  assert 'pixel_mean of the training images: ' + ', '.join(f'{value:.4f}' for value in pixels.mean(0)) in said

  tested = json.loads((tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()[-1])['test/loss']
  forgotten = make(folder, validation=0.2, pixel_statistics='dataset')
  for given in (config, forgotten):
    assert cmpe_jax.evaluate(given, workdir)['eval/loss'] == pytest.approx(tested)
  other = make(folder, validation=0.2, pixel_mean=(0.5,) * 3, pixel_std=(0.5,) * 3)
  with pytest.raises(UserError, match='pixel_mean: .* in the checkpoint, .* now'):
    cmpe_jax.evaluate(other, workdir)
  config.epochs = 2.0
  capsys.readouterr()
  cmpe_jax.train(config, workdir)
  said = capsys.readouterr().out
  assert 'going on from' in said
  assert 'pixel_mean' not in said  # not measured anew
