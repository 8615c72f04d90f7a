import re
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest
from harness import ROOT, begin

from cmpe_jax import config as configuration
from cmpe_jax.errors import Interrupted, UserError
from cmpe_jax.runtime import command


def raises(error):
  def body():
    raise error

  return body


@pytest.mark.parametrize(
  ('error', 'code'), [(UserError('epochs=x'), 2), (Interrupted('stopped at step 3'), 75), (KeyboardInterrupt(), 75)]
)
def test_exit_codes(error, code, capsys):
  assert command.run(raises(error), ['test']) == code
  assert str(error) in capsys.readouterr().err


@pytest.mark.parametrize(
  ('before', 'code', 'said'),
  [
    (None, 75, 'a process did not come, as when it has ended (Timed out while waiting for async_write_complete'),
    (UserError('the disk is full'), 2, 'error: the disk is full'),
    (Interrupted('stopped and saved at step 3.'), 75, 'stopped and saved at step 3. The same command goes on'),
    (OSError(28, 'No space left on device', 'metrics.jsonl'), 2, 'or of temporary files, is full (metrics.jsonl)'),
    (jax.errors.JaxRuntimeError('UNAVAILABLE: heartbeat'), 75, 'async_write_complete'),
  ],
)
def test_a_process_that_waits_in_vain_for_others_can_be_started_again(before, code, said, monkeypatch, capsys):
  """As Orbax ends, in a `finally` as well, when another process died while all of them saved."""
  monkeypatch.setattr(command, '_is_one_of_several', lambda: True)

  def body():
    try:
      if before:
        raise before
    finally:
      raise TimeoutError('Timed out while waiting for async_write_complete barrier.')

  assert command.run(body, ['test']) == code
  assert said in capsys.readouterr().err


def test_a_fault_of_one_of_several_processes_keeps_its_traceback(monkeypatch):
  monkeypatch.setattr(command, '_is_one_of_several', lambda: True)

  def body():
    try:
      raise KeyError('a fault')
    finally:
      raise TimeoutError('Timed out while waiting for async_write_complete barrier.')

  with pytest.raises(TimeoutError):
    command.run(body, ['test'])


def test_a_time_limit_of_one_process_is_no_such_thing():
  with pytest.raises(TimeoutError):
    command.run(raises(TimeoutError('of something else')), ['test'])


def test_files_that_are_refused_are_named_without_a_traceback(tmp_path, capsys):
  (tmp_path / 'file').write_text('')
  for body in (
    lambda: (tmp_path / 'file').mkdir(),
    lambda: (tmp_path / 'file' / 'x').read_bytes(),
    tmp_path.read_bytes,
  ):
    assert command.run(body, ['test']) == 2
    assert re.fullmatch(
      rf'error: {tmp_path}\S*: .*\. Give another path, or the rights to it\.\n', capsys.readouterr().err
    )


def test_names_that_are_no_text_can_be_printed():
  code = 'from cmpe_jax.runtime import command; command.run(lambda: print("caf\\udce9"), ["test"])'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, timeout=60)
  assert (done.stdout, done.stderr) == (b'caf\\udce9\n', b'')


def test_anything_else_keeps_its_traceback():
  with pytest.raises(ZeroDivisionError):
    command.run(lambda: 1 / 0, ['test'])
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      'import sys; from cmpe_jax.runtime import command; sys.exit(command.run(lambda: 1 / 0, ["test"]))',
    ],
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.returncode == 1
  assert 'ZeroDivisionError' in done.stderr


def test_memory_that_does_not_suffice_is_said_plainly(capsys):
  code = command.run(lambda: jax.block_until_ready(jnp.zeros(1 << 45, jnp.float32)), ['test'])
  assert code == 2
  message = capsys.readouterr().err
  assert 'out of memory' in message
  assert 'batch_size' in message
  assert len(message.splitlines()) == 1


def test_wrong_flags_answer_without_importing_jax():
  program = (
    'import sys; from cmpe_jax.runtime import command; code = command.run(print, ["test", "--wrong=1"]); '
    'sys.exit(10 * code + ("jax" in sys.modules))'
  )
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=60)
  assert done.returncode == 20, done.stderr


@pytest.mark.parametrize('name', ['digits', 'configs/digits.py'])
def test_a_configuration_has_a_name_and_a_path(name, tmp_path, monkeypatch):
  """Also where no configs/ is at hand; a file that is there comes first."""
  monkeypatch.chdir(tmp_path)
  assert configuration.find(name).samefile(ROOT / 'configs' / 'digits.py')
  assert configuration.load(name).model.depth == 20
  if name != 'digits':
    (tmp_path / 'configs').mkdir()
    (tmp_path / name).write_text('')
    assert configuration.find(name).resolve() == tmp_path / name
  with pytest.raises(UserError, match="there is no configuration 'configs/nothing.py': .* one of base, .*digits"):
    configuration.find('configs/nothing.py')


IN_NATIVE_CODE = 'hashlib.pbkdf2_hmac("sha256", b"", b"", 2 * 10**9)'
ASLEEP = 'time.sleep(100)'
SWALLOWED = 'swallow()'
PROGRAM = """
import hashlib, sys, time
from cmpe_jax.runtime import command, places  # or the time that it takes to import this would lie after the signal

def swallow():
  try:
    time.sleep(100)
  except BaseException as error:
    raise ImportError('of a library that was interrupted') from error

def body():
  print('here', flush=True)
  {doing}

sys.exit(command.run(body, ['test']))
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('doing', [IN_NATIVE_CODE, ASLEEP, SWALLOWED])
def test_a_signal_ends_a_command_with_75_wherever_it_is(doing, number):
  """In Python by an exception, which lets it clean up; in native code, which no exception reaches, a little later."""
  process = begin(['-c', PROGRAM.format(doing=doing)], stderr=subprocess.PIPE)
  assert process.stdout.readline() == 'here\n'
  time.sleep(0.2)
  process.send_signal(number)
  began = time.monotonic()
  said = process.communicate(timeout=60)[1]
  assert (process.returncode, said) == (75, 'interrupted. The same command goes on from what was saved.\n')
  assert time.monotonic() - began < 20
