"""The board: files of several machines as one page, and the refusal of what does not fit."""

import pathlib
import re
import shlex
import xml.etree.ElementTree

import numpy as np
import pytest
import scipy.stats
from harness import run_module

from cmpe_jax import config as configuration
from cmpe_jax import names
from cmpe_jax.data import datasets
from cmpe_jax.errors import UserError
from cmpe_jax.tools.board import command, front, gathered, page, pictures
from cmpe_jax.tools.compare import charts
from cmpe_jax.tools.shared import results, rows

ROOT = pathlib.Path(__file__).parents[3]
ORIGIN = {
  'commit': 40 * 'a',
  'versions': {'jax': '0.10.2'},
  'devices': '8 x TPU v5e',
  'date': '2026-01-02',
  'processor': '4 cores of X',
}


def write(
  path, name='cifar10_resnet164', errors=((0, 'se', 500), (0, 'none', 510)), origin=None, curves=None, **overrides
):
  """A file of results whose runs have that many wrong answers of 10,000, and whose own means are nonsense."""
  config = configuration.load(name)
  config.update(overrides)
  dataset = datasets.describe(config)
  runs = [
    {
      'variant': gate,
      'seed': seed,
      'accuracy': 1 - wrong / 10_000,
      'loss': 0.2,
      'count': 10_000,
      'seconds': 100.0,
      'images': 10,
      'origin': ORIGIN | (origin or {}),
      **({'curves': curves} if curves else {}),
    }
    for seed, gate, wrong in errors
  ]
  gates = sorted({gate for _, gate, _ in errors}, key=list(names.GATES).index)
  content = {
    'format': 1,
    'config': name,
    'recipe': results.recipe(dataset.resolve(config), dataset),
    'varied': ['model.gate'],
    'variants': {gate: {'model.gate': gate} for gate in gates},
    'references': ['none'],  # as the last command compared
    'seeds': sorted({seed for seed, _, _ in errors}),
    'test_images': 10_000,
    'runs': runs,
    'rows': [{'name': gate, 'parameters': 1000, 'mean': 12.3} for gate in gates],
    'notes': [],
  }
  path.write_text(results.text(content))
  return path


def row(text, *start):
  """The cells of the line that begins so."""
  (line,) = [line for line in text.splitlines() if line.startswith('| ' + ' | '.join(start) + ' |')]
  return line.strip('| ').split(' | ')[len(start) :]


def test_two_machines_make_one_table_whose_numbers_come_from_the_runs(tmp_path):
  one = write(tmp_path / 'a.json', errors=((0, 'none', 520), (0, 'se', 500), (1, 'none', 545), (1, 'se', 521)))
  two = write(
    tmp_path / 'b.json',
    errors=((5, 'none', 501), (5, 'se', 503), (6, 'se', 490)),
    origin={'commit': 40 * 'b' + '+', 'devices': '1 x cpu'},
    data_dir='/theirs',
    steps_per_call=8,
  )
  found = gathered.gather([one, two])
  assert len(found) == 1
  text = page.page(found, {})
  se, none = np.array([5.0, 5.21, 5.03, 4.90]), np.array([5.2, 5.45, 5.01])
  low, high = scipy.stats.ttest_rel(none, se[:3]).confidence_interval(0.95)
  runs, accuracy, minus_se, minus_none = row(text, '`se`')[:4]
  assert (runs, minus_se) == ('4', '-')
  assert accuracy == f'{100 - se.mean():.2f} ± {se.std(ddof=1):.2f} %'
  assert minus_none == f'{(none - se[:3]).mean():+.2f} [{low:+.2f}, {high:+.2f}] no difference shown'
  assert row(text, '`none`')[0] == '3 of 4'
  assert '12.3' not in text
  assert '4 runs, 2026-01-02: commit aaaaaaaaaaaa; jax 0.10.2; 8 x TPU v5e, 4 cores of X' in text
  assert '3 runs, 2026-01-02: commit bbbbbbbbbbbb, with changes; jax 0.10.2; 1 x cpu, 4 cores of X' in text
  low, high = scipy.stats.t.interval(0.95, 3, se.mean(), scipy.stats.sem(se))
  assert f'\n| | `se` | 4.85 | {se.mean():.2f} [{low:.2f}, {high:.2f}], n=4 | 4.07 | open |\n' in text


def test_what_the_others_are_compared_with():
  assert rows.references(['none', 'eca', 'se']) == ['se', 'none']
  assert rows.references(['none', 'eca']) == ['none']
  assert rows.references(['learning_rate=0.1', 'learning_rate=0.2']) == ['learning_rate=0.1']


def test_cells_of_the_paper_are_of_its_recipe(tmp_path):
  mixed = write(tmp_path / 'a.json', name='cifar100_wrn22_10', errors=((0, 'pair_1x1', 1700),), mixup_alpha=1.0)
  other = write(tmp_path / 'b.json', name='cifar100_wrn22_10', errors=((0, 'pair_1x1', 1600),), learning_rate=0.3)
  found = gathered.gather([mixed, other])
  assert len(found) == 2
  cells = [page.ours(found, 'cifar100', 'wrn22_10', 'pair_1x1', alpha) for alpha in (0.0, 1.0)]
  assert cells == [[], [pytest.approx(17.0)]]
  text = page.page(found, {})
  assert '### `cifar100_wrn22_10`, `learning_rate=0.3`\n' in text
  given = next(line for line in text.splitlines() if 'b.json`' in line and line.startswith('* command'))
  assert '--config=configs/cifar100_wrn22_10.py --config.learning_rate=0.3 --gates=none,pair_1x1 --seeds=2' in given
  lines = [line for line in text.splitlines() if line.startswith('| `cifar100_wrn22_10`, mixup')]
  assert '--config.mixup_alpha=1 --gates=none,se --seeds=3' in lines[0]  # the third is filled


def test_the_command_of_a_recipe_can_be_typed_and_asks_for_its_seeds(tmp_path):
  kept = {'decay_epochs': (), 'decay_fractions': (0.25, 0.75)}
  (found,) = gathered.gather([write(tmp_path / 'a.json', errors=((3, 'se', 500), (6, 'se', 510)), **kept)])
  given = shlex.split(page.command(found))
  assert '--config.decay_fractions=(0.25, 0.75)' in given
  assert {'--config.seed=3', '--seeds=4', '--results=docs/results/a.json'} <= set(given)


def test_a_folder_that_anybody_can_have_is_named(tmp_path):
  content = results.load(write(tmp_path / 'a.json', name='cifar10_short'))
  content['recipe']['dataset'] = 'folder:059b1af939b2287d'
  (tmp_path / 'a.json').write_text(results.text(content))
  text = page.page(gathered.gather([tmp_path / 'a.json']), {})
  assert 'as JPEG files, which are lossy copies' in text
  assert '--config=configs/cifar10_short.py --config.dataset=folder:PATH --gates=none,se --seeds=2' in text


def test_files_that_contradict_each_other_are_refused(tmp_path):
  one = write(tmp_path / 'a.json')
  same = write(tmp_path / 'b.json')
  assert len(gathered.gather([one, same])[0].runs['se']) == 1  # the same run twice counts once
  other = write(tmp_path / 'b.json', errors=((0, 'se', 501),))
  with pytest.raises(UserError, match=r'b\.json: se with seed 0 has an accuracy of 0\.9499, but one of 0\.95 in .*a\.'):
    gathered.gather([one, other])


def test_a_configuration_that_is_not_here_is_refused(tmp_path):
  content = results.load(write(tmp_path / 'a.json')) | {'config': 'mine'}
  (tmp_path / 'a.json').write_text(results.text(content))
  with pytest.raises(UserError, match=r"a\.json is of a configuration that is not here: .*'mine'"):
    gathered.gather([tmp_path / 'a.json'])


def test_the_page_in_docs_is_what_the_board_draws():
  found = gathered.gather(sorted((ROOT / 'docs' / 'results').glob('*.json')))
  hours = command.hours(ROOT / 'docs' / 'results')
  assert page.page(found, hours) == (ROOT / 'docs' / 'results.md').read_text(), 'run: python -m cmpe_jax.tools.board'


def test_the_first_table_of_the_readme_is_what_the_board_draws():
  found = gathered.gather(sorted((ROOT / 'docs' / 'results').glob('*.json')))
  text = (ROOT / 'README.md').read_text()
  assert front.replaced(text, found) == text, 'run: python -m cmpe_jax.tools.board'


def test_the_first_table_has_what_is_measured_and_what_is_open(tmp_path):
  errors = ((0, 'none', 2200), (0, 'se', 2150), (0, 'pair_1x1', 2100), (1, 'none', 2240), (1, 'se', 2160))
  other = write(tmp_path / 'c.json', name='cifar10_short', errors=[(seed, 'ge', 1000) for seed in range(9)], epochs=1.0)
  content = results.load(write(tmp_path / 'a.json', name='cifar10_short', errors=errors))
  content['recipe']['dataset'] = 'folder:059b1af939b2287d'
  (tmp_path / 'a.json').write_text(results.text(content))
  found = gathered.gather([tmp_path / 'a.json', other])
  text = front.section(found)
  low, high = scipy.stats.ttest_rel([78.5, 78.4], [78.0, 77.6]).confidence_interval(0.95)
  assert row(text, '`se`') == ['2', '21.55 ± 0.07 %', '-', f'+0.65 [{low:+.2f}, {high:+.2f}] no difference shown']
  assert row(text, '`pair_1x1`') == ['1', '21.00 %', 'open', 'open']
  assert [row(text, f'`{gate}`')[:2] for gate in ('eca', 'ge', 'folded_3x3')] == [['0', 'open']] * 3
  assert re.search(r'which are lossy copies.* 6 epochs; seeds run so far: 0, 1\. Mean', text, re.DOTALL)
  assert '* `python -m cmpe_jax.tools.compare --config=configs/cifar10_short.py --config.dataset=folder:PATH' in text
  assert '* 5 runs, 2026-01-02: commit aaaaaaaaaaaa; jax 0.10.2; 8 x TPU v5e, 4 cores of X\n' in text
  assert '95%' in text
  assert '"open": not measured yet; a difference takes two seeds that both gates have.' in text
  assert '`--gates=double_fc,pair_2x1,folded_3x3,eca,ge` in place of the one in the command' in text


def test_without_runs_there_is_no_first_table_but_the_commands_for_it():
  text = front.section([])
  assert 'no run has finished yet' in text
  assert f'--gates={",".join(names.GATES)} --seeds=3' in text
  assert '|' not in text
  assert '%' not in text


def test_learning_curves_are_drawn_where_runs_have_kept_them(tmp_path):
  write(tmp_path / 'a.json')
  assert 'results/a.svg' not in page.page(gathered.gather([tmp_path / 'a.json']), {})
  steps = [100.0, 200.0, 400.0]
  (tmp_path / 'b').mkdir()
  write(tmp_path / 'b' / 'c.json', curves={'eval/accuracy': [steps, [0.5, 0.75, 0.875]]})
  (each,) = gathered.gather([tmp_path / 'b' / 'c.json'])
  assert '![Test error and training loss over the epochs.](results/c.svg)' in page.page([each], {})
  drawn = xml.etree.ElementTree.fromstring(pictures.svg(each))
  said = [element.text for element in drawn.iter('{http://www.w3.org/2000/svg}text')]
  assert {'test error, %', 'epoch', 'se', 'none'} <= set(said)
  assert 'training loss' not in said  # of which there is no line
  figure = charts.learning({label: found for label, found in pictures._panels(each).items() if found})
  runs, means = figure.axes[0].lines[:2]
  for line in (runs, means):  # the last step is the end of the last epoch
    np.testing.assert_allclose(line.get_xdata(), np.divide(steps, 400) * each.identity['epochs'])
    np.testing.assert_allclose(line.get_ydata(), [50, 25, 12.5])


def test_the_command(tmp_path):
  file = write(tmp_path / 'a.json', curves={'train/loss': [[1.0, 2.0], [2.0, 1.0]]})
  output, readme = tmp_path / 'page.md', tmp_path / 'front.md'
  readme.write_text(f'before\n{front.BEGIN}stale\n{front.END}after\n')
  done = run_module('cmpe_jax.tools.board', f'--results={tmp_path}', f'--output={output}', f'--readme={readme}')
  assert re.fullmatch(r'before\n<.*>\n\nWhat the short recipe .*\n<.*>\nafter\n', readme.read_text(), re.DOTALL)
  assert 'stale' not in readme.read_text()
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('2 runs of 1 recipes in ')
  assert '### `cifar10_resnet164`\n' in output.read_text()
  assert (tmp_path / 'a.svg').read_text().startswith('<?xml')
  file.write_text(file.read_text().replace('0.949', '0.959', 1))
  for arguments, said in (
    ([f'--results={tmp_path}'], 'is not as compare wrote it'),
    (['--results=no'], 'is not a folder'),
    ([f'--results={tmp_path}/none', f'--readme={output}'], 'has no lines <!-- The board'),
    ([f'--results={tmp_path}/none', '--readme=no.md'], '--readme=no.md cannot be read'),
  ):
    (tmp_path / 'none').mkdir(exist_ok=True)
    refused = run_module('cmpe_jax.tools.board', '--readme=', *arguments, f'--output={output}')
    assert refused.returncode == 2
    assert said in refused.stderr
    assert 'Traceback' not in refused.stderr
