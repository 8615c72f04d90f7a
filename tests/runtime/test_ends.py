"""How a command ends after a signal, where something else has ended or goes wrong as well."""

import os
import pathlib
import signal
import subprocess
import time

import harness
import pytest
from harness import ROOT

HEAD = """
import sys, time
from cmpe_jax.runtime import command, printing
from cmpe_jax.runtime.signals import Stop
"""
RUN = '\nsys.exit(command.run(body, ["test"]))\n'
INTERRUPTED = 'interrupted. The same command goes on from what was saved.\n'


def begin(body, *arguments):
  return harness.begin(['-c', HEAD + body + RUN, *map(str, arguments)], stderr=subprocess.PIPE)


COMPILES = """
def body():
  import jax, jax.numpy as jnp
  jax.config.update('jax_enable_compilation_cache', False)

  def loss(weights, x):
    for weight in weights:
      x = jax.lax.conv_general_dilated(x, weight, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
      x = jnp.tanh(x - x.mean((0, 1, 2)))
    return x.sum()

  lowered = jax.jit(jax.grad(loss)).lower([jnp.ones((3, 3, 16, 16))] * 300, jnp.ones((8, 16, 16, 16)))
  print('here', flush=True)
  Stop().unless_told(lowered.compile)
"""


def test_a_compilation_outside_of_a_run_is_left_alone():
  """As that of an evaluation by itself. The interpreter would wait for it, or crash when it ends."""
  process = begin(COMPILES)
  assert process.stdout.readline() == 'here\n'
  time.sleep(1.0)
  process.send_signal(signal.SIGINT)
  began = time.monotonic()
  said = process.communicate(timeout=60)[1]
  assert (process.returncode, said) == (75, INTERRUPTED)
  assert time.monotonic() - began < 10


SAVES = """
def body():
  with Stop() as stop:
    stop.unsaved = sys.argv[2] == 'unsaved'
    printing.line('here')
    while not stop():
      time.sleep(0.1)
    if not stop.unsaved:
      time.sleep(60)  # the thread that heard the signal ends the process, be it after this one
    printing.line('one more line')
    open(sys.argv[1], 'w').close()
    stop.check()
"""


@pytest.mark.parametrize('what', ['unsaved', 'saved'])
def test_nobody_need_read_what_a_command_says(tmp_path, what):
  """Ctrl-C in `... 2>&1 | tee log` ends `tee` too. What is to be saved is saved."""
  process = begin(SAVES, tmp_path / 'saved', what)
  assert process.stdout.readline() == 'here\n'
  process.stdout.close()
  process.stderr.close()
  time.sleep(0.3)
  process.send_signal(signal.SIGINT)
  assert process.wait(timeout=20) == 75
  assert (tmp_path / 'saved').exists() == (what == 'unsaved')


FAILS = """
def body():
  with Stop() as stop:
    stop.unsaved = True
    print('here', flush=True)
    while not stop():
      time.sleep(0.1)
    raise RuntimeError('nothing can be saved')
"""


def test_a_fault_after_a_signal_is_not_hidden():
  process = begin(FAILS)
  assert process.stdout.readline() == 'here\n'
  process.send_signal(signal.SIGTERM)
  said = process.communicate(timeout=20)[1]
  assert process.returncode == 75
  assert said.startswith('Traceback')
  assert said.endswith('RuntimeError: nothing can be saved\n' + INTERRUPTED)


WAITS = """
def body():
  import concurrent.futures
  pool = concurrent.futures.ThreadPoolExecutor(1)  # which the interpreter waits for
  pool.submit(time.sleep, 60)
  print('here', flush=True)
  time.sleep(60)
"""


def test_it_is_said_once_where_threads_hold_up_the_end():
  process = begin(WAITS)
  assert process.stdout.readline() == 'here\n'
  process.send_signal(signal.SIGINT)
  out, err = process.communicate(timeout=30)
  assert (process.returncode, out, err) == (75, '', INTERRUPTED)


READS = """
import sys, time
from cmpe_jax.data import reader
from cmpe_jax.runtime import command
from cmpe_jax.runtime.signals import Stop

def read(element):
  import numpy as np
  return {'image': np.zeros((10, 10), np.uint8)}

def body():
  from absl import flags
  flags.FLAGS.mark_as_parsed()
  with Stop():
    print('here', flush=True)
    next(reader.first(reader.ahead(list(range(1000)), read, 1, 2)))
    time.sleep(100)

if __name__ == '__main__':
  sys.exit(command.run(body, ['test']))
"""


def started_by(process):
  """The processes of `multiprocessing` that any of its threads has begun."""
  files = pathlib.Path(f'/proc/{process}/task').glob('*/children')
  children = [child for file in files for child in file.read_text().split()]
  return [child for child in children if 'spawn_main' in pathlib.Path(f'/proc/{child}/cmdline').read_text()]


def runs(process):
  """Whether there is such a process, and it is no zombie that nobody has asked for its exit code."""
  try:
    return pathlib.Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
  except (FileNotFoundError, ProcessLookupError):
    return False


def begin_reading(folder):
  (folder / 'reads.py').write_text(READS)
  process = harness.begin(
    [str(folder / 'reads.py')], start_new_session=True, stderr=subprocess.PIPE, PYTHONPATH=str(ROOT)
  )
  assert process.stdout.readline() == 'here\n'
  deadline = time.monotonic() + 60
  while len(workers := started_by(process.pid)) < 2:
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.02)
  return process, workers


def left_of(workers, seconds=60):
  """Those that have not ended by themselves in time."""
  deadline = time.monotonic() + seconds
  while (alive := [worker for worker in workers if runs(worker)]) and time.monotonic() < deadline:
    time.sleep(0.1)
  return alive


def test_reading_processes_end_with_the_command_that_had_begun_them(tmp_path):
  """Also where it is killed so soon after that they import their modules still."""
  process, workers = begin_reading(tmp_path)
  process.kill()
  process.communicate()
  assert left_of(workers) == []


def test_ctrl_c_shows_nothing_of_the_reading_processes(tmp_path):
  """The terminal sends it to all of them, also while they import their modules; none says what it was doing."""
  process, workers = begin_reading(tmp_path)
  time.sleep(0.4)
  os.killpg(process.pid, signal.SIGINT)
  _, err = process.communicate(timeout=60)
  assert (process.returncode, err) == (75, INTERRUPTED)
  assert left_of(workers) == []


AT_ONCE = """
import os, signal
from cmpe_jax.runtime import watch

watch.GRACE = 0.1
reading, writing = os.pipe()
os.write(writing, bytes([signal.SIGINT, 0]))
watch.Watch()._listen(reading)
"""


def test_a_signal_that_is_read_together_with_the_end_is_heard():
  """As on a busy machine, where the main thread has its KeyboardInterrupt and has ended before the other one runs."""
  process = begin(AT_ONCE)
  process.communicate(timeout=60)
  assert process.returncode == 75
