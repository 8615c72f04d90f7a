"""Files of results: what is written is read, and slips are found."""

import copy
import json
import re

import pytest

from cmpe_jax import config as configuration
from cmpe_jax.data import datasets
from cmpe_jax.errors import UserError
from cmpe_jax.tools.shared import results


def content(**recipe):
  config = configuration.base()
  config.update(recipe)
  dataset = datasets.describe(config)
  runs = [
    {
      'variant': gate,
      'seed': seed,
      'accuracy': (340 + seed) / 364,
      'loss': 0.1,
      'count': 364,
      'seconds': 9.0,
      'images': 5,
    }
    for gate in ('none', 'se')
    for seed in (0, 1)
  ]
  return {
    'format': 1,
    'config': 'digits',
    'recipe': results.recipe(dataset.resolve(config), dataset),
    'varied': ['model.gate'],
    'variants': {'none': {'model.gate': 'none'}, 'se': {'model.gate': 'se'}},
    'references': ['se', 'none'],
    'seeds': [0, 1],
    'test_images': 364,
    'runs': runs,
    'rows': [],
    'notes': ['one'],
  }


def test_what_is_written_is_read_and_a_run_has_a_line(tmp_path):
  file = tmp_path / 'a.json'
  file.write_text(results.text(content()))
  found = results.load(file)
  assert found.pop('hash') == json.loads(file.read_text())['hash']
  assert found == content()
  assert len(re.findall(r'^  \{"variant"', file.read_text(), re.MULTILINE)) == 4


def test_an_edited_figure_is_refused(tmp_path):
  file = tmp_path / 'a.json'
  file.write_text(results.text(content()).replace('"loss": 0.1', '"loss": 0.01', 1))
  with pytest.raises(UserError, match=r'a\.json is not as compare wrote it: its hash is \w{12}, that of its contents'):
    results.load(file)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (lambda x: x.update(format=9), 'is not of format 1'),
    (lambda x: x['recipe'].update(learning_rat=1), r'does not fit: .*learning_rat \(unknown\)'),
    (lambda x: x['recipe'].update(schedule='up'), "does not fit: schedule='up' is not known"),
    (lambda x: x['variants']['se'].update(momentum=0.5), r"variant 'se' changes \['model.gate', 'momentum'\], but"),
    (lambda x: x['variants']['se'].update({'model.gate': 'nonsense'}), "variant 'se' cannot be: model.gate='nonsense'"),
    (lambda x: (x['varied'].append('epochs'), x['variants']['se'].update(epochs='many')), "variant 'se' cannot be: "),
    (lambda x: x.update(varied=['model.gat']), r"it varies \['model.gat'\], which are no keys"),
    (lambda x: x['runs'][0].update(variant='ge'), "run 'ge' with seed 0 is of none of its variants, none, se"),
    (lambda x: x['runs'][1].update(seed=2), r"run 'none' with seed 2 has a seed that is none of its \[0, 1\]"),
    (lambda x: x['runs'][1].update(seed=0), "run 'none' with seed 0 is there twice"),
    (lambda x: x['runs'][1].update(count=300), 'was tested on 300 images, the recipe has 364'),
    (lambda x: x['runs'][1].update(accuracy=0.9), 'accuracy of 0.9, which is no part of 364 images'),
    (lambda x: x['runs'][1].pop('accuracy'), "does not fit: KeyError: 'accuracy'"),
  ],
)
def test_what_does_not_fit_is_refused_though_the_hash_does(change, said, tmp_path):
  wrong = content()
  change(wrong)
  (tmp_path / 'a.json').write_text(results.text(wrong))
  with pytest.raises(UserError, match=f'(?s)a.json .*{said}'):
    results.load(tmp_path / 'a.json')


def test_variants_may_have_tuples_and_other_test_images(tmp_path):
  swept = content()
  swept['varied'] = ['decay_epochs', 'split_seed']
  swept['variants'] = {'none': {'decay_epochs': []}, 'se': {'split_seed': 1}}
  swept['recipe']['decay_epochs'], swept['recipe']['decay_fractions'] = [10, 20], []
  for run in swept['runs'][2:]:
    run |= {'count': 365, 'accuracy': 73 / 365}
  (tmp_path / 'a.json').write_text(results.text(swept))
  assert [run['count'] for run in results.load(tmp_path / 'a.json')['runs']] == [364, 364, 365, 365]
  swept['runs'][3] |= {'count': 364, 'accuracy': 0.5}
  (tmp_path / 'a.json').write_text(results.text(swept))
  with pytest.raises(UserError, match="run 'se' with seed 1 was tested on 364 images, the recipe has 365"):
    results.load(tmp_path / 'a.json')


def test_what_is_no_json_is_refused(tmp_path):
  (tmp_path / 'a.json').write_text('<<<<<<< HEAD')
  with pytest.raises(UserError, match='cannot be read as JSON'):
    results.load(tmp_path / 'a.json')


def test_recipes_are_the_same_where_they_compute_the_same():
  one = results.identity(content()['recipe'], ['model.gate'])
  same = content(data_dir='/elsewhere', seed=5, steps_per_call=4, log_every_steps=7)['recipe']
  same['model']['gate'] = 'se'
  assert results.identity(same, ['model.gate']) == one
  other = results.identity(content(epochs=7.0, mixup_alpha=1.0)['recipe'], ['model.gate'])
  assert results.differences(one, other) == ['  epochs: 200.0 there, 7.0 now', '  mixup_alpha: 0.0 there, 1.0 now']
  old = copy.deepcopy(content(split_by='position')['recipe'])
  del old['split_by']  # as version 1.0 split
  assert results.identity(old, [])['split_by'] == 'position'


def test_a_folder_is_known_by_its_files_and_not_by_its_place(tmp_path):
  from PIL import Image

  for place in ('one', 'two', 'three'):
    for split, number in (('train', 3), ('test', 1)):
      for name in 'ab':
        folder = tmp_path / place / split / name
        folder.mkdir(parents=True)
        for i in range(number + (place == 'three' and name == 'b')):
          Image.new('RGB', (8, 8), (40 * i, 0, 0)).save(folder / f'{i}.png')
  names = {
    place: content(dataset=f'folder:{tmp_path / place}')['recipe']['dataset'] for place in ('one', 'two', 'three')
  }
  assert re.fullmatch(r'folder:[0-9a-f]{16}', names['one'])
  assert names['one'] == names['two'] != names['three']
