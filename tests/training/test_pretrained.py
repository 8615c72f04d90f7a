"""Weights that travel: written from a run, read in another process, refused where they are not whole."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import huggingface_hub
import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from harness import ROOT
from PIL import Image

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax.errors import UserError
from cmpe_jax.training import pretrained, trained

FRESH = """
import sys, jax, numpy as np, cmpe_jax
network = cmpe_jax.from_pretrained(sys.argv[1])
images = np.load(sys.argv[2])
np.savez(sys.argv[3], logits=jax.jit(network.logits)(network.variables, images), names=network.names)
"""


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """An epoch of the digits with moving averages and a validation part."""
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'pair_1x1'})
  config.update({'batch_size': 64, 'epochs': 2.0, 'learning_rate': 0.05, 'validation': 0.2, 'ema_decay': 0.8})
  workdir = tmp_path_factory.mktemp('pretrained') / 'run'
  cmpe_jax.train(config, str(workdir))
  return workdir


@pytest.fixture(scope='module')
def saved(workdir):
  folder = workdir.parent / 'small'
  cmpe_jax.save_pretrained(str(workdir), str(folder), license='mit', notes='Seen by nobody else.')
  return folder


@pytest.fixture
def copy(saved, tmp_path):
  return pathlib.Path(shutil.copytree(saved, tmp_path / 'copy'))


def test_a_fresh_process_gives_the_same_logits_bit_for_bit(workdir, saved, tmp_path):
  run = trained.open_run(str(workdir))
  images = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3)).astype(np.uint8)
  np.save(tmp_path / 'images.npy', images)
  arguments = [str(path) for path in (saved, tmp_path / 'images.npy', tmp_path / 'found.npz')]
  subprocess.run([sys.executable, '-c', FRESH, *arguments], cwd=ROOT, check=True, timeout=200)
  with np.load(tmp_path / 'found.npz') as found:
    np.testing.assert_array_equal(found['logits'], jax.jit(run.logits)(run.variables, images))
    assert tuple(found['names']) == run.names


def test_the_averages_are_what_is_saved_and_the_files_say_so(workdir, saved):
  _, variables, _ = cmpe_jax.load_model(str(workdir))
  about = json.loads((saved / 'config.json').read_text())
  assert about['weights'] == 'moving averages of the trained ones (ema_decay=0.8)'
  with safetensors.safe_open(saved / 'model.safetensors', 'numpy') as file:
    kernel = file.get_tensor('params/stage2_block0/conv1/kernel')
    assert json.loads(file.metadata()['model'])['class_names'] == [str(digit) for digit in range(10)]
  np.testing.assert_array_equal(kernel, variables['params']['stage2_block0']['conv1']['kernel'])


def test_the_hub_reads_the_card(workdir, saved):
  card = huggingface_hub.ModelCard.load(saved / 'README.md')
  assert (card.data.library_name, card.data.license) == ('cmpe_jax', 'mit')
  (result,) = card.data.eval_results
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  (tested,) = (line for line in lines if 'test/accuracy' in line)
  assert result.metric_value == tested['test/accuracy']
  assert (result.dataset_name, result.dataset_split, result.metric_type) == ('digits', 'test', 'accuracy')
  assert 'Seen by nobody else.' in card.text
  assert f'| test | 364 | {tested["test/accuracy"]:.2%} |' in card.text


def test_the_description_has_what_another_program_needs(saved):
  about = json.loads((saved / 'config.json').read_text())
  assert about['library_name'] == 'cmpe_jax'
  assert about['architecture'] == 'resnet8_pair_1x1'
  assert (about['image_size'], about['crop_share'], about['interpolation']) == (16, 1.0, 'bilinear')
  assert about['normalization']['mean'] == [0.305] * 3
  assert about['normalization']['std'] == [0.376] * 3


def test_a_run_on_a_folder_leaves_its_places_at_home(tmp_path):
  for number in range(24):
    place = tmp_path / 'secret' / 'flowers' / ('rose', 'tulip')[number % 2] / f'{number}.png'
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (40, 30), (10 * number, 0, 90)).save(place)
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'se'})
  folder = tmp_path / 'secret' / 'flowers'
  config.update({'dataset': f'folder:{folder}', 'image_size': 96, 'batch_size': 8, 'epochs': 1.0})
  config.update({'data_dir': str(tmp_path / 'secret'), 'eval_crop': 0.9, 'eval_interpolation': 'bicubic'})
  cmpe_jax.train(config, str(tmp_path / 'run'))
  cmpe_jax.save_pretrained(str(tmp_path / 'run'), str(tmp_path / 'saved'))
  for name in ('config.json', 'README.md'):
    assert 'secret' not in (tmp_path / 'saved' / name).read_text()
  run, network = trained.open_run(str(tmp_path / 'run')), cmpe_jax.from_pretrained(str(tmp_path / 'saved'))
  assert network.names == ('rose', 'tulip')
  data = next(folder.rglob('*.png')).read_bytes()
  np.testing.assert_array_equal(network.square(data, 'x'), run.square(data, 'x'))
  np.testing.assert_array_equal(network.normalize(data_of(run, data)), run.normalize(data_of(run, data)))
  with pytest.raises(UserError, match="do not come with them: folder 'flowers' does not exist"):
    network.dataset.content.labels('test')


def data_of(run, data):
  return run.square(data, 'x')[None]


def cut(path):
  path.write_bytes(path.read_bytes()[:-1000])


def flip(path):
  data = bytearray(path.read_bytes())
  data[-5000] ^= 4
  path.write_bytes(data)


def rewrite(**changes):
  """Changes keys of config.json; None removes one."""

  def change(path):
    about = json.loads(path.read_text())
    for name, value in changes.items():
      part, _, key = name.rpartition('__')
      (about[part] if part else about)[key] = value
    path.write_text(json.dumps({key: value for key, value in about.items() if value is not None}))

  return change


@pytest.mark.parametrize(
  ('name', 'change', 'said'),
  [
    ('model.safetensors', cut, 'is not what config.json beside it was written for'),
    ('model.safetensors', flip, 'is not what config.json beside it was written for'),
    ('model.safetensors', pathlib.Path.unlink, r'model\.safetensors cannot be read'),
    ('config.json', cut, r'config\.json is damaged'),
    ('config.json', lambda path: path.write_bytes(b'\xff'), r'config\.json is damaged'),
    ('config.json', lambda path: path.write_text('[]'), 'does not describe weights of cmpe_jax.*tools.convert timm'),
    ('config.json', rewrite(class_names=None), 'does not describe weights of cmpe_jax'),
    ('config.json', rewrite(class_names=['a', 'b']), 'has 2 names for 10 classes'),
    ('config.json', rewrite(library_version='9.0', config__new_key=1), r'(?s)written by 9\.0.*\+ new_key \(unknown\)'),
    ('config.json', rewrite(config__epochs='many'), 'cannot be used by cmpe_jax'),
    ('config.json', rewrite(config__pixel_std=[0, 1, 1]), 'those of pixel_std above 0'),
    ('config.json', rewrite(config__pixel_std=['a', 'b', 'c']), 'those of pixel_std above 0'),
    ('config.json', rewrite(config__model=3), 'cannot be used by cmpe_jax'),
    ('config.json', rewrite(config__image_size=0), 'cannot be used by cmpe_jax'),
  ],
)
def test_what_is_not_whole_is_refused_with_a_sentence(copy, name, change, said):
  change(copy / name)
  with pytest.raises(UserError, match=said):
    cmpe_jax.from_pretrained(str(copy))


def test_weights_of_another_network_are_listed(copy):
  about = json.loads((copy / 'config.json').read_text())
  about['config']['model'] |= {'depth': 14}
  del about['sha256']
  (copy / 'config.json').write_text(json.dumps(about))
  with pytest.raises(UserError, match=r'- params/stage1_block1/conv1/kernel \[3, 3, 16, 16\] \(missing\)'):
    cmpe_jax.from_pretrained(str(copy))
  about['config']['model'] |= {'depth': 8, 'gate': 'se'}
  (copy / 'config.json').write_text(json.dumps(about))
  with pytest.raises(UserError, match=r'\+ params/stage1_block0/gate/map_bn/bias'):
    cmpe_jax.from_pretrained(str(copy))


def test_a_damaged_file_without_a_checksum_is_named(copy):
  rewrite(sha256=None)(copy / 'config.json')
  cut(copy / 'model.safetensors')
  with pytest.raises(UserError, match=r'model\.safetensors is damaged'):
    cmpe_jax.from_pretrained(str(copy))


def test_names_that_are_none(workdir, tmp_path):
  with pytest.raises(UserError, match="no weights 'digit': give one of .*digits"):
    cmpe_jax.from_pretrained('digit')
  with pytest.raises(UserError, match='is a workdir: give it as --workdir'):
    cmpe_jax.from_pretrained(str(workdir))
  with pytest.raises(UserError, match='no weights'):
    cmpe_jax.from_pretrained(str(tmp_path))


def test_what_would_be_overwritten(workdir, saved, tmp_path):
  before = (saved / 'model.safetensors').read_bytes()
  cmpe_jax.save_pretrained(str(workdir), str(saved), license='mit', notes='Seen by nobody else.')
  assert (saved / 'model.safetensors').read_bytes() == before
  (tmp_path / 'README.md').write_text('# A book\n')
  with pytest.raises(UserError, match=r'README\.md is no card of cmpe_jax and would be overwritten'):
    cmpe_jax.save_pretrained(str(workdir), str(tmp_path))
  assert os.listdir(tmp_path) == ['README.md']
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot be written'):
    cmpe_jax.save_pretrained(str(workdir), str(tmp_path / 'file'))


@pytest.mark.parametrize('name', pretrained.names())
def test_the_weights_that_come_with_the_package(name):
  folder = pretrained.SHIPPED / name
  assert sum(path.stat().st_size for path in folder.iterdir()) < 4e6
  assert sorted(os.listdir(folder)) == ['README.md', 'config.json', 'model.safetensors']
  network = cmpe_jax.from_pretrained(name)
  assert not network.config.dataset.startswith('folder:/')
  card = huggingface_hub.ModelCard.load(folder / 'README.md')
  assert card.data.eval_results[0].metric_value > 0.5
  assert card.data.license == 'apache-2.0'


def test_the_page_has_what_comes_with_the_package_and_the_figures_of_its_cards():
  rows = re.findall(r'^\| `(\w+)` \|.*\| ([\d.]+) %', (ROOT / 'docs' / 'pretrained.md').read_text(), re.MULTILINE)
  cards = {name: huggingface_hub.ModelCard.load(pretrained.SHIPPED / name / 'README.md') for name in pretrained.names()}
  assert dict(rows) == {name: f'{card.data.eval_results[0].metric_value:.2%}'[:-1] for name, card in cards.items()}


def test_the_digits_have_the_accuracy_of_their_card():
  network = cmpe_jax.from_pretrained('digits')
  images, labels = network.dataset.content.arrays('test')
  logits = np.asarray(jax.jit(network.logits)(network.variables, images))
  card = huggingface_hub.ModelCard.load(pretrained.SHIPPED / 'digits' / 'README.md')
  assert (logits.argmax(1) == labels).mean() == pytest.approx(card.data.eval_results[0].metric_value, abs=1e-9)
