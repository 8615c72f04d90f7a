"""The model card: the command in it is the run's, its figures are those of its weights, its front matter is YAML."""

import shlex

import pytest
import yaml
from absl import flags
from harness import resolved
from ml_collections.config_flags import config_flags
from PIL import Image

from cmpe_jax import config as configuration
from cmpe_jax import names
from cmpe_jax.data import datasets
from cmpe_jax.data.datasets import known_folders
from cmpe_jax.models import builder
from cmpe_jax.training import card, publish, rerun
from cmpe_jax.training.trained import Trained


def parsed(command, monkeypatch):
  """The configuration that a command's flags give."""
  python, dash, module, *arguments = shlex.split(command)
  assert (python, dash, module) == ('python', '-m', 'cmpe_jax.main')
  monkeypatch.setattr('sys.argv', ['main', *arguments])  # where ml_collections looks for overrides
  values = flags.FlagValues()
  config_flags.DEFINE_config_file('config', flag_values=values)
  assert values(['main', *arguments]) == ['main']
  return values['config'].value


def changed(name, **changes):
  config = configuration.load(name)
  config.update_from_flattened_dict(changes)
  return resolved(config)


@pytest.mark.parametrize(
  ('config', 'count'),
  [
    (changed('digits'), 1),
    (changed('digits', **{'seed': 3, 'model.gate': 'se', 'data_dir': '/somewhere'}), 3),
    (changed('base', decay_fractions=(), decay_epochs=(60.0, 120.5), pixel_mean=(0.5,) * 3), 4),
    (changed('base', pixel_std=(0.1, 0.2, 0.3), init_from='us/a b'), 3),
    (changed('imagenet_cmpe50', image_size=160, dtype='float32', nesterov=False), 4),
  ],
)
def test_the_command_gives_the_configuration_again(config, count, monkeypatch):
  command = rerun.command(config)
  again = resolved(parsed(command, monkeypatch))
  again.data_dir = config.data_dir
  assert configuration.flatten(again) == configuration.flatten(config)
  assert len(shlex.split(command)) == 3 + count


def test_places_of_one_machine_stay_there():
  assert rerun.dataset_name('folder:/home/me/flowers') == 'folder:flowers'
  assert rerun.dataset_name('folder:flowers') == 'folder:flowers'
  assert rerun.dataset_name('cifar10') == 'cifar10'
  given = ('/home/me/run', 'gs://bucket/run', '~/run', 'runs/x', 'us/x@main', 'digits', '')
  assert [rerun.without_place(path) for path in given] == ['run', 'run', 'run', 'runs/x', 'us/x@main', 'digits', '']


LINES = [
  {'step': 10, 'train/loss': 3.0},
  {'step': 10, 'eval/accuracy': 0.1, 'eval/count': 5},
  {'step': 10, 'eval_ema/accuracy': 0.2, 'eval_ema/count': 5},
  {'step': 20, 'eval/accuracy': 0.3, 'eval/count': 5},
  {'step': 20, 'test/accuracy': 0.4, 'test/count': 9},
]


@pytest.mark.parametrize(
  ('step', 'values', 'checkpoint', 'found'),
  [
    (10, {}, 'best', ('test', 0.1)),
    (10, {'ema_decay': 0.9}, 'best', ('test', 0.2)),
    (10, {'validation': 0.1}, 'best', ('test', 0.4)),
    (20, {'validation': 0.1}, 'newest', ('validation', 0.3)),
    (15, {}, 'best', None),
    (20, {'ema_decay': 0.9}, 'newest', None),
  ],
)
def test_the_figures_are_those_of_the_weights(step, values, checkpoint, found):
  config = configuration.base()
  config.update(values)
  figures = card.figures(LINES, step, config, checkpoint)
  assert (figures and (figures.part, figures.values['accuracy'])) == found


def test_figures_of_a_run_that_went_on_are_of_other_weights():
  config = configuration.base()
  config.validation = 0.1
  later = [*LINES, {'step': 30, 'eval/accuracy': 0.6, 'eval/count': 5}]
  figures = card.figures(later, 30, config, 'best')
  assert (figures.part, figures.values['accuracy']) == ('validation', 0.6)


def written(config, step=7, figures=None, license='unknown'):
  dataset = datasets.describe(config)
  run = Trained(builder.build(config.model), {}, config, dataset, dataset.class_names)
  return card.text('some "name": x', run, step, figures, license, 'A note.')


def test_the_front_matter_is_yaml_and_the_sections_are_there():
  figures = card.Figures('test', {'accuracy': 0.5, 'top5': 1.0, 'loss': 0.25, 'count': 1364})
  text = written(changed('digits', label_smoothing=0.1, learning_rate_batch_size=64), figures=figures)
  assert card.is_one(text)
  _, front, body = text.split('---\n', 2)
  about = yaml.safe_load(front)
  assert (about['library_name'], about['license']) == ('cmpe_jax', 'unknown')
  (entry,) = about['model-index']
  assert entry['name'] == 'some "name": x'
  assert entry['results'][0]['metrics'] == [{'type': 'accuracy', 'value': 0.5}]
  assert [line[3:] for line in body.splitlines() if line.startswith('## ')] == [
    'Use',
    'Data',
    'Training',
    'Figures',
    'Limits',
    'Licence',
  ]
  flat = ' '.join(body.split())
  assert '7 steps of 32 images' in flat
  assert 'rate 0.05 per 64 images (cosine)' in flat
  assert 'label smoothing 0.1' in flat
  assert '1,433 images to train on, 364 to test on, 10 classes: 0, 1,' in flat
  assert '| test | 1,364 | 50.00% | 100.00% | 0.2500 |' in flat
  assert 'A note.' in flat
  assert 'Not stated' in flat


def test_converted_weights_are_not_said_to_be_trained_here():
  text = written(changed('imagenet_resnet50', architecture='resnet50.a1_in1k'), step=0, license='apache-2.0')
  assert 'model-index' not in text
  flat = ' '.join(text.split())
  assert '`resnet50.a1_in1k`: imagenet_resnet of depth 50 with no gate' in flat
  assert 'Nothing was trained here' in flat
  assert 'were not evaluated' in flat
  assert 'That of the weights that they were converted from holds too.' in flat


@pytest.mark.parametrize('gate', names.GATES)
def test_networks_have_names(gate):
  config = configuration.base()
  config.model.gate = gate
  assert card.architecture(config) == f'resnet164_{gate}'
  config.model.update({'backbone': 'wide_resnet', 'depth': 28, 'width': 10})
  assert card.architecture(config) == f'wide_resnet28_10_{gate}'


def test_other_readmes_are_no_cards():
  assert not card.is_one('# A book\n')
  assert not card.is_one('---\nlibrary_name: timm\n---\nlibrary_name: cmpe_jax\n')


def test_a_folder_that_anybody_can_have_is_called_by_its_name(tmp_path, monkeypatch):
  for number in range(24):
    place = tmp_path / 'private' / ('rose', 'tulip')[number % 2] / f'{number}.png'
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8), (10 * number, 0, 90)).save(place)
  config = changed('cifar10_short', dataset=f'folder:{tmp_path}/private')
  dataset = datasets.describe(config)
  run = Trained(builder.build(config.model), {}, config, dataset, dataset.class_names)
  assert publish.by_its_name(run) is run
  digest = known_folders.digest(dataset.content.listing)
  monkeypatch.setitem(known_folders.KNOWN, digest, ('Flowers', 'Lossy copies of flowers.'))
  named = publish.by_its_name(run)
  figures = card.Figures('test', {'accuracy': 0.5, 'top5': 1.0, 'loss': 0.25, 'count': 5})
  text = card.text('x', named, 7, figures, 'mit', '')
  assert 'Lossy copies of flowers.' in text
  assert ' --config.dataset=folder:Flowers ' in text
  assert yaml.safe_load(text.split('---\n')[1])['model-index'][0]['results'][0]['dataset']['name'] == 'folder:Flowers'
  assert publish.description(named)['config']['dataset'] == 'folder:Flowers'
  assert 'private' not in text
  (next((tmp_path / 'private').rglob('*.png'))).write_bytes(b'longer than it was' * 100)
  assert known_folders.digest(datasets.describe(config).content.listing) != digest


def test_the_copies_of_cifar10_are_said_to_be_copies():
  name, said = known_folders.KNOWN['059b1af939b2287d']
  assert name == 'CIFAR-10-images'
  assert 'lossy copies' in said
