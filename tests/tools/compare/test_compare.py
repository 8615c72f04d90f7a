"""Comparisons by the command: real cells, interruptions, wrong inputs."""

import csv
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.stats

from cmpe_jax.tools.compare import hyperparameters
from cmpe_jax.tools.shared import results

ROOT = pathlib.Path(__file__).parents[3]
TINY = (
  '--config=configs/digits.py',
  '--config.model.block=basic',
  '--config.model.depth=8',
  '--config.epochs=2',
  '--config.warmup_epochs=1',
  '--config.batch_size=128',
)


def start(*arguments, **options):
  return subprocess.Popen(
    [sys.executable, '-m', 'cmpe_jax.tools.compare', *arguments],
    cwd=ROOT,
    env=os.environ | {'XLA_FLAGS': ''},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def run(*arguments):
  process = start(*arguments)
  out, err = process.communicate(timeout=400)
  return process.returncode, out, err


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ([*TINY, '--seeds=1'], '--seeds=1 gives no interval'),
    ([*TINY, '--gates=none,see'], "gate='see' is not known. Choose one of: 'none', 'se'"),
    ([*TINY, '--gates=se,none', '--sweep'], '--gates and --sweep are two comparisons'),
    ([*TINY, '--gates=se,none', '--config.model.gate=se'], '--config.model.gate would do nothing'),
    ([*TINY, '--gates=se,none', '--workdir=Makefile/x'], 'cannot be written (Not a directory)'),
  ],
)
def test_wrong_inputs(arguments, said, tmp_path):
  if not any(argument.startswith('--workdir') for argument in arguments):
    arguments = [*arguments, f'--workdir={tmp_path}']
  code, _, err = run(*arguments)
  assert code == 2, err
  assert said in err
  assert 'Traceback' not in err


def test_a_cell_that_fails_is_named_and_the_others_are_kept(tmp_path):
  file = tmp_path / 'swept.py'
  file.write_text(
    (ROOT / 'configs' / 'digits.py').read_text().partition('def get_sweep')[0]
    + "def get_sweep():\n  return [{'warmup_epochs': 5.0}, {'warmup_epochs': 0.0}]\n"
  )
  code, out, err = run(f'--config={file}', '--sweep', '--config.epochs=2', f'--workdir={tmp_path}/out')
  assert code == 2
  assert 'warmup_epochs=5.0, seed 0 failed: warmup_epochs=5.0 leaves nothing of epochs=2.0' in err
  assert 'log.txt' in err
  assert '[0 of 10 done' in out


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A comparison of two gates and two seeds that ran through: its workdir, and what it printed."""
  workdir = tmp_path_factory.mktemp('compared')
  code, out, err = run(*TINY, '--gates=none,se', '--seeds=2', f'--workdir={workdir}')
  assert code == 0, err
  return workdir, out


def last_accuracy(workdir, gate, seed):
  lines = (workdir / 'cells' / gate / f'seed{seed}' / 'metrics.jsonl').read_text().splitlines()
  return [line for line in map(json.loads, lines) if 'eval/accuracy' in line][-1]


def test_the_table_is_what_the_runs_ended_with(finished):
  workdir, out = finished
  ends = {gate: [last_accuracy(workdir, gate, seed) for seed in range(2)] for gate in ('none', 'se')}
  assert {end['step'] for runs in ends.values() for end in runs} == {23}  # ceil(2 * 1433 / 128)
  accuracy = {gate: np.array([100 * end['eval/accuracy'] for end in runs]) for gate, runs in ends.items()}
  row = next(line for line in out.splitlines() if line.startswith('se  '))
  assert f'{accuracy["se"].mean():.2f} ± {accuracy["se"].std(ddof=1):.2f} %' in row
  content = json.loads((workdir / 'results.json').read_text())
  found = content['rows'][1]['differences']['none']
  low, high = scipy.stats.ttest_rel(accuracy['se'], accuracy['none']).confidence_interval(0.95)
  np.testing.assert_allclose([found['low'], found['high']], [low, high], rtol=1e-6)
  assert content['test_images'] == 364
  assert content['recipe']['model']['num_classes'] == 10
  with (workdir / 'results.csv').open() as file:
    listed = [(row['variant'], row['seed'], float(row['test_accuracy'])) for row in csv.DictReader(file)]
  assert listed == [
    (gate, str(seed), pytest.approx(ends[gate][seed]['eval/accuracy'], abs=1e-6))
    for seed in range(2)
    for gate in ('none', 'se')
  ]
  with (workdir / 'table.csv').open() as file:
    table = {row['variant']: row for row in csv.DictReader(file)}
  assert float(table['se']['minus_none']) == pytest.approx((accuracy['se'] - accuracy['none']).mean(), rel=1e-4)
  assert (table['none']['minus_none'], int(table['none']['runs'])) == ('', 2)
  events = (workdir / hyperparameters.FOLDER).rglob('events.out.tfevents.*')
  assert {event.parent.relative_to(workdir / hyperparameters.FOLDER).as_posix() for event in events} == {
    f'{gate}/seed{seed}' for gate in ('none', 'se') for seed in range(2)
  }


def test_seeds_differ_and_are_those_of_a_run_of_its_own(finished):
  configurations = [
    json.loads((finished[0] / 'cells' / gate / f'seed{seed}' / 'config.json').read_text())
    for gate in ('none', 'se')
    for seed in range(2)
  ]
  assert [config['seed'] for config in configurations] == [0, 1, 0, 1]
  for config in configurations:
    config['seed'] = 0
    config['model']['gate'] = ''
  assert all(config == configurations[0] for config in configurations)
  losses = [last_accuracy(finished[0], gate, seed)['eval/loss'] for gate in ('none', 'se') for seed in range(2)]
  assert len(set(losses)) == 4


def test_finished_cells_are_not_run_again(finished):
  workdir, out = finished
  logs = {path: path.stat().st_mtime_ns for path in workdir.glob('cells/*/*/log.txt')}
  assert len(logs) == 4
  code, again, err = run(*TINY, '--gates=none,se', '--seeds=2', f'--workdir={workdir}')
  assert code == 0, err
  assert {path: path.stat().st_mtime_ns for path in logs} == logs
  assert again.strip() == out[out.index('\n\n') :].strip()


def untimed(workdir):
  """results.json without what depends on the clock."""
  content = results.load(workdir / 'results.json')
  del content['hash']
  for row in content['rows']:
    assert row.pop('seconds') > 0
    assert row.pop('speed') > 0
  for each in content['runs']:
    assert each.pop('seconds') > 0
    assert re.fullmatch(r'\d{4}-\d\d-\d\d', each['origin'].pop('date'))
  return content


def test_another_machine_goes_on_from_the_file_of_results_alone(finished, tmp_path):
  workdir, out = finished
  shutil.copy(workdir / 'results.json', tmp_path / 'sent.json')
  command = (*TINY, '--gates=none,se', f'--workdir={tmp_path}/new', f'--results={tmp_path}/sent.json')
  code, again, err = run(*command, '--seeds=2')
  assert code == 0, err
  assert not (tmp_path / 'new' / 'cells').exists()  # nothing was trained
  assert again.strip().replace(f'{tmp_path}/new', str(workdir)) == out[out.index('\n\n') :].strip()
  assert (tmp_path / 'sent.json').read_text() == (workdir / 'results.json').read_text()
  code, _, err = run(*command, '--seeds=2', '--config.learning_rate=0.1')
  assert code == 2
  assert 'holds runs of another recipe:\n  learning_rate: 0.05 there, 0.1 now\nSet these back' in err


@pytest.mark.slow
def test_what_the_file_of_results_lacks_is_run_and_is_what_it_was(finished, tmp_path):
  workdir, _ = finished
  content = results.load(workdir / 'results.json')
  content['runs'] = [each for each in content['runs'] if (each['variant'], each['seed']) != ('se', 1)]
  (tmp_path / 'sent.json').write_text(results.text(content))
  arguments = ('--gates=none,se', '--seeds=2', f'--workdir={tmp_path}/new', f'--results={tmp_path}/sent.json')
  code, out, err = run(*TINY, *arguments)
  assert code == 0, err
  assert '[3 of 4 done' in out
  assert [str(path.parent.name) for path in tmp_path.glob('new/cells/*/*/log.txt')] == ['seed1']
  (tmp_path / 'results.json').write_text((tmp_path / 'sent.json').read_text())
  assert untimed(tmp_path) == untimed(workdir)


@pytest.mark.slow
def test_what_another_process_finishes_meanwhile_is_not_run(finished, tmp_path):
  workdir, _ = finished
  whole = (workdir / 'results.json').read_text()
  content = results.load(workdir / 'results.json')
  content['runs'] = [each for each in content['runs'] if each['seed'] == 0]
  sent = tmp_path / 'sent.json'
  sent.write_text(results.text(content))
  process = start(*TINY, '--gates=none,se', '--seeds=2', f'--workdir={tmp_path}/new', f'--results={sent}')
  said = process.stdout.readline()
  assert 'none, seed 1: begins' in said
  sent.write_text(whole)
  out, err = process.communicate(timeout=400)
  assert process.returncode == 0, err
  assert '[4 of 4 done]  se, seed 1: is finished in the file of results' in out
  assert [str(path.parent.parent.name) for path in tmp_path.glob('new/cells/*/*/log.txt')] == ['none']


@pytest.mark.slow
def test_killed_twice_and_stopped_once_it_ends_with_the_same_table(finished, tmp_path):
  workdir, _ = finished
  arguments = (*TINY, '--gates=none,se', '--seeds=2', f'--workdir={tmp_path}')
  moments = [('none/seed0', signal.SIGKILL), ('se/seed0', signal.SIGTERM), ('none/seed1', signal.SIGKILL)]
  for place, number in moments:
    process = start(*arguments)
    checkpoint = tmp_path / 'cells' / place / 'checkpoints' / '12'  # of the first epoch; half of the run is left
    while not (checkpoint / '_CHECKPOINT_METADATA').exists():
      assert process.poll() is None, process.communicate()
      time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    assert not (tmp_path / 'cells' / place / 'result.json').exists(), 'it came too late'
    assert process.returncode == (75 if number == signal.SIGTERM else -9), err
  assert 'Not finished: 2 of 4 runs are missing' in (tmp_path / 'report.html').read_text()
  code, out, err = run(*arguments)
  assert code == 0, err
  assert 'none, seed 1: goes on from its checkpoint' in out
  assert untimed(tmp_path) == untimed(workdir)
