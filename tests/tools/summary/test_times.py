"""Where the time of a run went: sums added up by hand, and a run that was killed and measured from outside."""

import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

import pytest
from etils import epath
from harness import ROOT, run_module

from cmpe_jax.errors import UserError
from cmpe_jax.tools.summary import times, timetable
from cmpe_jax.training import account, starts
from cmpe_jax.training.account import Account, Spread

SECONDS = dict.fromkeys(account.PHASES, 0.0)


def record(began, first, done, ended='', saved=(), facts=(), steps=(), **seconds):
  """What a start that took `seconds` would have written."""
  whole = {'began': began, 'seconds': SECONDS | seconds, 'ended': ended, 'first': first, 'done': done}
  rest = {'compilations': 2, 'steps': dict(steps), 'saved': [list(pair) for pair in saved], 'facts': dict(facts)}
  return json.loads(json.dumps(whole | rest))


def work(training, evaluation=0.0):
  return {'training': training, 'data': 0.0, 'evaluation': evaluation, 'checkpoints': 0.0}


def test_what_a_kill_has_cost_is_told_from_what_was_kept():
  found = times.of_records(
    [
      record(100.0, 0, 25, saved=[(10, work(20.0)), (20, work(40.0, 1.0))], start=5, training=50, evaluation=3),
      record(160.0, None, 0, start=4),  # killed before it came to the steps
      record(170.0, 20, 30, 'interrupted', saved=[(30, work(20.0))], start=5, training=20, checkpoints=2),
      record(200.0, 30, 31, start=5, training=2),
      record(210.0, 30, 40, 'done', saved=[(40, work(20.0))], start=5, training=20, evaluation=2),
    ]
  )
  assert [start.lost for start in found.starts] == [5, 0, 0, 1, 0]
  assert found.seconds('lost') == (50 - 40) + (3 - 1) + 2
  assert found.seconds('training') == 40 + 20 + 0 + 20
  assert found.seconds('evaluation') == 1 + 2
  assert found.seconds('start') == 24
  assert found.seconds('checkpoints') == 2
  assert found.total == sum(found.seconds(row) for row in times.ROWS) == 58 + 4 + 27 + 7 + 27
  assert found.between == (160 - 158) + (170 - 164) + (200 - 197) + (210 - 207)
  assert found.unaccounted == []


def test_a_checkpoint_before_the_last_four_is_told_in_proportion():
  saved = [(step, work(2.0 * step)) for step in (60, 70, 80, 90)]
  found = times.of_records(
    [record(0.0, 0, 100, saved=saved, training=200), record(300.0, 50, 100, 'done', training=100)]
  )
  assert (found.lost, found.seconds('lost')) == (50, 100)
  back = times.of_records(
    [record(0.0, 0, 40, 'done', training=80), record(0.0, 40, 80, 'done', training=80), record(0.0, 20, 80, 'done')]
  )
  assert [start.lost for start in back.starts] == [20, 40, 0]


def test_steps_without_an_account_are_named(tmp_path, capsys):
  place = tmp_path / starts.FOLDER
  with pytest.raises(UserError, match='no account of its time'):
    timetable.main(str(tmp_path), None)
  with pytest.raises(UserError, match='nowhere.* does not exist'):
    timetable.main(str(tmp_path / 'nowhere'), None)
  place.mkdir()
  facts = {'input_processes': 0, 'dataset': 'imagenet2012', 'stored_side': 0}
  first = record(0.0, 90, 100, 'done', facts=facts, steps={'24': [10, 0.5, 0.0]}, training=5, data=15)
  (place / '0001.json').write_text(json.dumps(first))
  timetable.main(str(tmp_path), str(tmp_path / 'times.json'))
  said = capsys.readouterr().out
  assert 'There is no account of the steps 1 to 90' in said
  assert re.search(r'waiting for data +15.0 s +75.0 %', said)
  assert 'a step at 24x24 pixels took 0.5 s, with a deviation of 0 s (10 steps)' in said
  assert 'The most besides training, 75%, is waiting for data: raise input_processes (is 0), or store smaller' in said
  written = json.loads((tmp_path / 'times.json').read_text())
  assert written['seconds'] | {'training': 5.0, 'data': 15.0} == written['seconds']
  assert written['unaccounted_steps'] == [[1, 90]]
  (place / '0001.json').write_text('{"began":')
  with pytest.raises(UserError, match=r'0001.json is damaged'):
    timetable.main(str(tmp_path), None)


@pytest.mark.parametrize(
  ('seconds', 'said'),
  [
    ({'training': 96, 'start': 4}, 'Nothing but training took more than 5% of the time.'),
    ({'training': 50, 'compilation': 50}, '50%, is compilation: 2 in 1 start. The programs are kept:'),
    ({'training': 50, 'evaluation': 50}, 'raise eval_every_steps (is 0, once an epoch).'),
    ({'training': 50, 'checkpoints': 50}, 'raise checkpoint_every_steps (is 7).'),
    ({'training': 50, 'start': 50}, 'is start-up: 1 start. Fewer'),
  ],
)
def test_the_largest_loss_has_its_remedy(seconds, said):
  facts = {'eval_every_steps': 0, 'checkpoint_every_steps': 7}
  assert said in timetable.advice(times.of_records([record(0.0, 0, 10, 'done', facts=facts, **seconds)]))


def test_lost_steps_have_their_remedy():
  facts = {'checkpoint_every_steps': 500}
  broken = record(0.0, 0, 400, facts=facts, training=40, saved=[(0, work(0.0))])
  found = times.of_records([broken, record(50.0, 0, 500, 'done', facts=facts, training=50)])
  assert '400 steps were computed again. Lower checkpoint_every_steps (is 500)' in timetable.advice(found)


def test_spreads_are_those_of_all_values():
  values = [0.1, 0.4, 0.2, 0.2, 0.9]
  one, other = Spread(), Spread()
  for value in values[:2]:
    one.add(value)
  other.add(0.2, times=2)
  other.add(0.9)
  one.join(other)
  assert one.count == 5
  assert one.mean == pytest.approx(statistics.mean(values))
  assert one.deviation == pytest.approx(statistics.stdev(values))
  one.join(Spread())
  assert one.count == 5


def test_every_second_is_in_one_phase():
  clock, began = Account(earlier=2.0), time.perf_counter()
  clock.begins(0, {})
  with clock.phase(account.EVALUATION):
    time.sleep(0.05)
    with clock.phase(account.COMPILATION):
      time.sleep(0.1)
      clock.record()  # as another thread does meanwhile
  found = clock.record()
  assert sum(found['seconds'].values()) == pytest.approx(2.0 + time.perf_counter() - began, abs=0.02)
  assert found['seconds']['evaluation'] == pytest.approx(0.05, abs=0.04)
  assert found['seconds']['compilation'] == pytest.approx(0.1, abs=0.04)
  assert found['seconds']['start'] == pytest.approx(2.0, abs=0.02)
  assert found['compilations'] == 1


def test_an_account_that_cannot_be_written_ends_no_run(tmp_path, capsys):
  (tmp_path / starts.FOLDER).write_text('in the way')
  with starts.keep(Account(), str(tmp_path), is_first=True):
    pass
  assert capsys.readouterr().err.count('the account of the time could not be written') == 1


def test_a_closed_account_is_not_written_any_more(tmp_path, capsys):
  """The thread that answers a signal may come later than the main thread, when the file's number is another file's."""
  (tmp_path / 'run').mkdir()
  with starts.keep(clock := Account(), str(tmp_path / 'run'), is_first=True) as kept:
    clock.begins(0, {})
  (path,) = starts.paths(epath.Path(tmp_path / 'run' / starts.FOLDER))
  before = path.read_text()
  with open(tmp_path / 'another', 'wb') as another:
    clock.ends('interrupted')
    kept.write()
    assert os.fstat(another.fileno()).st_size == 0
  assert path.read_text() == before
  assert capsys.readouterr().err == ''


SCRIPT = """
import os, signal, sys
from cmpe_jax.runtime import command

def body():
  from cmpe_jax import config as configuration
  from cmpe_jax.training.console import Console
  from cmpe_jax.training.train import train

  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'none'})
  config.update({'batch_size': 64, 'epochs': 6.0, 'log_every_steps': 1, 'checkpoint_every_steps': 20})
  workdir, last, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

  def follow(done, total):
    if done == last:
      os.kill(os.getpid(), number)

  train(config, workdir, console=Console(on_step=follow))

sys.exit(command.run(body, sys.argv[:1]))
"""


@pytest.mark.slow
def test_two_kills_and_a_preemption_leave_nothing_in_the_dark(tmp_path):
  script, workdir = tmp_path / 'run.py', tmp_path / 'run'
  script.write_text(SCRIPT)
  environment = os.environ | {'XLA_FLAGS': '', 'PYTHONPATH': str(ROOT)}
  spent, outputs, first = [], [], time.perf_counter()
  for last, number in ((37, signal.SIGKILL), (51, signal.SIGTERM), (97, signal.SIGKILL), (0, 0)):
    began = time.perf_counter()
    done = subprocess.run(
      [sys.executable, str(script), str(workdir), str(last), str(int(number))],
      env=environment,
      capture_output=True,
      text=True,
      timeout=200,
    )
    assert done.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 75}.get(number, 0), done.stderr
    spent.append(time.perf_counter() - began)
    outputs.append(done.stdout)
  whole = time.perf_counter() - first
  found = times.of_records(starts.read(str(workdir)))
  steps = [int(re.search(r'going on from the checkpoint at step (\d+)', output)[1]) for output in outputs[1:]]
  print(steps, spent, timetable.starts_table(found), timetable.shares_table(found), sep='\n')
  assert [start.first for start in found.starts] == [0, *steps]
  assert [start.lost for start in found.starts] == [37 - steps[0], 0, 97 - steps[2], 0]
  assert [start.ended for start in found.starts] == ['', 'interrupted', '', 'done']
  for start, took in zip(found.starts, spent, strict=True):  # the rest: since the last word, and Python's own end
    assert 0 < took - start.total < max(5, 0.5 * took)
  assert whole - max(5, 0.5 * spent[-1]) < found.total + found.between < whole
  assert found.seconds('other') < 0.05 * found.total
  assert found.seconds('other') + whole - found.total - found.between < 0.05 * whole  # and what no account has seen
  assert sum(found.seconds(row) for row in times.ROWS) == pytest.approx(found.total)
  assert sum(spread.count for spread in found.steps().values()) > 100

  done = run_module('cmpe_jax.tools.summary', f'--workdir={workdir}', f'--json={tmp_path}/times.json')
  assert done.returncode == 0, done.stderr
  assert json.loads((tmp_path / 'times.json').read_text())['lost_steps'] == found.lost
  assert len(list(pathlib.Path(workdir, starts.FOLDER).iterdir())) == 4
