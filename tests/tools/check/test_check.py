"""`tools.check` on real processes: what it says where all is well, and where something is not."""

import os
import re

import pytest
from harness import ROOT, begin, free_address

from cmpe_jax.errors import Interrupted, UserError
from cmpe_jax.tools.check import machine
from cmpe_jax.tools.check.report import Report

SMALL = (f'--config={ROOT}/configs/digits.py', '--config.model.block=basic', '--config.model.depth=8')


def check(*arguments, devices=1, **environment):
  """A process of the check, which has just begun."""
  return begin(['-m', 'cmpe_jax.tools.check', *SMALL, *arguments], devices, **environment)


def pair(workdirs, *arguments):
  """Exit codes and outputs of two processes of two devices each."""
  flags = [f'--coordinator_address={free_address()}', '--num_processes=2', *arguments]
  started = [
    check(f'--process_id={i}', f'--workdir={workdir}', *flags, devices=2) for i, workdir in enumerate(workdirs)
  ]
  outputs = [process.communicate(timeout=250)[0] for process in started]
  return [process.returncode for process in started], outputs


def lines(output):
  """{name: (verdict, text)} of what was printed, and the other lines."""
  pattern = re.compile(r'(ok|FAILED|not run) +(\w+(?: \w+)?)  +(.*)')
  matches = [pattern.fullmatch(line) for line in output.splitlines()]
  found = {match[2]: (match[1], match[3]) for match in matches if match}
  return found, [line for line, match in zip(output.splitlines(), matches, strict=True) if not match]


def test_one_process_where_all_is_well(tmp_path):
  workdir = tmp_path / 'new' / 'run'
  ended = check(f'--workdir={workdir}', '--config.batch_size=64', devices=2)
  output = ended.communicate(timeout=250)[0]
  assert ended.returncode == 0, output
  found, others = lines(output)
  assert [verdict for verdict, _ in found.values()] == ['ok'] * 10
  assert found['devices'][1] == '2 x cpu (cpu), which do not say how much memory they have'
  assert found['workdir'][1].startswith(f'{workdir} is written and read, 1 MiB in ')
  assert found['compiled step'][1].endswith('of an unknown size')
  assert 'all-reduce of 64 MiB over 2 devices: right' in found['collectives'][1]
  assert 'all good' in others
  assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_two_processes_where_all_is_well(tmp_path):
  workdir = tmp_path / 'new' / 'run'
  codes, outputs = pair([workdir, workdir], '--config.batch_size=64')
  assert codes == [0, 0], outputs
  found, others = lines(outputs[0])
  assert {verdict for verdict, _ in found.values()} == {'ok'}
  assert re.match(r'Python 3\.\d+\.\d+, jax \d+\.\d+\.\d+, flax ', found['versions'][1])
  assert found['devices'][1].startswith('4 x cpu (cpu), which do not say how much memory they have, 2 processes')
  assert [line.split()[:3] for line in others if 'on ' in line][:2] == [['process', '0:', '2'], ['process', '1:', '2']]
  assert found['one workdir'][1] == 'all 2 processes see one workdir'
  assert found['configuration'][1] == 'batch_size=64, 16 on each device, float32'
  assert found['data'][1].startswith('1,433 images')
  assert '(1.1 MiB)' in found['data'][1]  # 1433 x (16 x 16 x 3 + 4) bytes
  said = re.match(r'loss (\S+), then \S+; the second step took (\S+) s: (\S+) images/s', found['one step'][1])
  assert 2 < float(said[1]) < 3  # ln 10 = 2.3
  assert float(said[3].replace(',', '')) == pytest.approx(64 / float(said[2]), rel=0.1)
  assert 'all-reduce of 64 MiB over 4 devices: right' in found['collectives'][1]
  assert 'all good' in others
  assert lines(outputs[1])[0] == {}
  assert not (tmp_path / 'new').exists()


def test_two_processes_with_two_workdirs_and_a_batch_that_does_not_divide(tmp_path):
  (tmp_path / 'one').mkdir()
  (tmp_path / 'one' / 'kept').write_text('before')
  codes, outputs = pair([tmp_path / 'one', tmp_path / 'two'], '--config.batch_size=63')
  assert codes == [2, 2], outputs
  found, others = lines(outputs[0])
  assert found['workdir'][0] == found['collectives'][0] == 'ok'
  verdict, text = found['one workdir']
  assert verdict == 'FAILED'
  assert text.startswith('process 1 does not see what process 0 writes')
  assert found['configuration'] == (
    'FAILED',
    'all processes: batch_size=63 does not divide by 4 devices: set it to 60 or 64, for example.',
  )
  assert [found[name][0] for name in ('data', 'compiled step', 'one step')] == ['not run'] * 3
  assert 'failed: one workdir, configuration; not run: data, compiled step, one step' in others
  assert [path.name for path in (tmp_path / 'one').iterdir()] == ['kept']
  assert not (tmp_path / 'two').exists()


def test_another_platform_a_workdir_that_cannot_be_written_and_data_that_are_not_there(tmp_path):
  (tmp_path / 'file').write_text('')
  data = ('--config.dataset=cifar10', f'--config.data_dir={tmp_path}/data')
  ended = check(f'--workdir={tmp_path}/file/run', *data, CMPE_JAX_PLATFORM='gpu')
  output = ended.communicate(timeout=100)[0]
  assert ended.returncode == 2, output
  found, others = lines(output)
  assert found['platform'][0] == 'FAILED'
  assert "CMPE_JAX_PLATFORM=gpu, but JAX found only the platform 'cpu'" in found['platform'][1]
  assert found['workdir'][0] == 'FAILED'
  assert 'cannot be written (Not a directory): give another --workdir.' in found['workdir'][1]
  assert found['data'][0] == 'FAILED'
  assert 'cmpe_jax.data.prepare --dataset=cifar10' in found['data'][1]
  assert [found[name][0] for name in ('one workdir', 'compiled step', 'collectives')] == ['not run'] * 3
  assert 'Traceback' not in output
  assert os.listdir(tmp_path) == ['file']


def fails(error):
  def action():
    raise error

  return action


@pytest.mark.parametrize(
  ('errors', 'code'),
  [
    ([], 0),
    ([Interrupted('no answer')], 75),
    ([Interrupted('no answer'), ZeroDivisionError('x')], 1),
    ([Interrupted('no answer'), ZeroDivisionError('x'), UserError('epochs')], 2),
    ([RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.')], 2),
  ],
)
def test_exit_codes(errors, code, capsys):
  report = Report()
  assert report.check('good', lambda: 3, lambda every: f'{every} found')
  for error in errors:
    assert not report.check('bad', fails(error), str)
  assert not report.check('last', lambda: 3, str, needs=[False])
  assert report.end() == code
  said = capsys.readouterr().out
  assert 'ok       good           [3] found' in said
  assert all(str(error) in said for error in errors)


def test_machines_that_differ_are_named():
  every = [{'Python': '3.12.1', 'jax': '0.10.2'}, {'Python': '3.12.1', 'jax': '0.10.1', 'libtpu': '0.1'}]
  with pytest.raises(UserError, match='process 1 .* process 0 .jax 0.10.1 against 0.10.2, libtpu 0.1 against missing'):
    machine.tell_versions(every)
  found = {'host': 'a', 'number': 4, 'kinds': ['TPU v5 lite (tpu)'], 'memory': 16 * 2**30}
  assert machine.tell_devices([found]) == '4 x TPU v5 lite (tpu), 16.0 GiB each'
  with pytest.raises(UserError, match=r'process 1 \(b\) has 3 x TPU v5 lite \(tpu\), process 0 \(a\) has 4 x'):
    machine.tell_devices([found, found | {'host': 'b', 'number': 3}])
