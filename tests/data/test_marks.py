"""What is kept of a folder's files, and what is said when they are others."""

import functools
import shutil

import numpy as np
import pytest
from PIL import Image

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax.data import datasets, marks, splits
from cmpe_jax.errors import UserError

NAME = 'folder:flowers'


class Files:
  """A dataset of names only."""

  def __init__(self, train, test):
    self._names = {'train': train.split(), 'test': test.split()}

  def labels(self, stored):
    return np.zeros(len(self._names[stored]), np.int32)

  def names(self, stored):
    return self._names[stored]


def changes(then, now, trains=False):
  return marks.changes(marks.of(Files(*then)), marks.of(Files(*now)), NAME, trains)


def test_marks_do_not_depend_on_the_order_or_on_how_a_disk_writes_accents():
  assert marks.of(Files('a/1 a/2', 'a/3')) == marks.of(Files('a/2 a/1', 'a/3'))
  assert marks.of(Files('é/1', 'a/3')) == marks.of(Files('e\u0301/1', 'a/3'))
  assert marks.of(Files('a/1', 'a/3')) != marks.of(Files('a/3', 'a/1'))
  assert marks.of(Files('', '')) == {}


def test_what_came_and_went_is_counted():
  then = ('a/1 a/2 b/1', 'a/3 b/3')
  assert changes(then, then) == ''
  assert changes(then, ('a/1 a/2 b/1 b/9', 'a/3 b/3')) == ''  # of no importance to what is tested
  assert changes(then, ('a/1', 'a/3 b/4 b/5')) == (
    "dataset='folder:flowers' has changed since the run began: its test part has 2 files more and 1 fewer; the figures "
    'are of other images than before.'
  )
  assert 'its train part has 1 files more and 0 fewer; an un' in changes(then, ('a/1 a/2 b/1 b/9', 'a/3 b/3'), True)
  assert marks.changes({}, marks.of(Files(*then)), NAME, True) == ''  # a run of an older version


def test_images_that_change_sides_are_refused():
  then = ('a/1 a/2', 'a/3 a/4')
  for trains in (False, True):
    with pytest.raises(UserError, match=r'1 images of its test part are files of the train part then, which was trai'):
      changes(then, ('a/1', 'a/2 a/3 a/4'), trains)
  # A file of the same name in both parts is two files.
  assert 'its test part has 1 files more' in changes(then, ('a/1 a/2', 'a/1 a/3 a/4'))
  with pytest.raises(UserError, match=r'1 images of its train part are files of the test part then, which was kept fo'):
    changes(then, ('a/1 a/2 a/3', 'a/4'), True)
  assert '0 files more and 1 fewer' in changes(then, ('a/1 a/2 a/3', 'a/4'))


def test_a_held_out_part_that_would_be_another_is_refused():
  """One file more draws it anew, from all training images."""
  config = configuration.base()
  config.validation = 0.2
  rows = functools.partial(splits.rows_of, config, 'validation')
  names = [f'a/{number}' for number in range(40)]
  then, same, more = (marks.of(Files(' '.join(train), 'a/x'), rows) for train in (names, names, [*names, 'a/40']))
  assert marks.changes(then, same, NAME, True) == ''
  others = set(rows(np.zeros(40, int))) ^ set(rows(np.zeros(41, int)))
  shown, hidden = (others & set(rows(np.zeros(count, int))) - {40} for count in (41, 40))
  assert shown
  said = f'validation: {len(shown)} that were trained on would be, {len(hidden)} that were would be trained on. Put'
  with pytest.raises(UserError, match=said):
    marks.changes(then, more, NAME, True)
  assert marks.changes(then, more, NAME, False) == ''  # the test part is the same
  with pytest.raises(UserError, match='held out for validation: its train part is another one'):
    marks.changes(marks.of(Files(' '.join(names), 'a/x')), more, NAME, True)  # of a version that did not note it


def fill(root, names):
  for number, name in enumerate(names):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8), (40 * (number % 6), 0, 99)).save(root / name)


def test_a_run_knows_its_files(tmp_path, capsys):
  root = tmp_path / 'images'
  fill(
    root,
    [f'{split}/{name}/{i}.png' for split, count in (('train', 10), ('test', 8)) for name in 'ab' for i in range(count)],
  )
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'none'})
  config.update({'dataset': f'folder:{root}', 'image_size': 8, 'batch_size': 8, 'epochs': 1.0})
  content = datasets.describe(config).content
  assert sorted(content.names('test')) == [f'{name}/{i}.png' for name in 'ab' for i in range(8)]
  workdir = str(tmp_path / 'run')
  cmpe_jax.train(config, workdir)
  cmpe_jax.evaluate(config, workdir)
  assert 'has changed' not in capsys.readouterr().out

  fill(root, ['test/a/8.png'])
  assert cmpe_jax.evaluate(config, workdir)['eval/count'] == 17
  assert 'its test part has 1 files more and 0 fewer' in capsys.readouterr().out
  config.epochs = 2.0
  cmpe_jax.train(config, workdir)
  assert 'its test part has 1 files more and 0 fewer; an uninterrupted' in capsys.readouterr().out

  shutil.move(root / 'train/b/9.png', root / 'test/b/9.png')
  with pytest.raises(UserError, match='1 images of its test part are files of the train part then'):
    cmpe_jax.evaluate(config, workdir)
  shutil.move(root, tmp_path / 'others')
  config.dataset = f'folder:{tmp_path}/others'
  assert cmpe_jax.evaluate(config, workdir)['eval/count'] == 18  # another folder is another test set
