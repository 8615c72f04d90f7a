"""Running the launch scripts, with stand-ins for the clouds' commands that write down how they were called."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def launch():
  """Runs a script: `launch(script, *arguments, root=checkout, path=folder of stand-ins, **environment)`."""

  def run(script, *arguments, root=ROOT, path='', **environment):
    env = os.environ | {'PATH': f'{path}:{os.environ["PATH"]}', 'POLL_SECONDS': '0'} | environment
    return subprocess.run(
      ['bash', f'{root}/launch/{script}', *arguments], env=env, capture_output=True, text=True, timeout=60
    )

  return run


@pytest.fixture
def stand_in():
  """`stand_in(folder, name, body)`: an executable that writes its arguments to folder/calls and then does `body`."""

  def make(folder, name, body):
    folder.mkdir(exist_ok=True)
    script = folder / name
    script.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> {folder}/calls\n{body}\n')
    script.chmod(0o755)
    return folder

  return make


@pytest.fixture
def calls():
  """`calls(folder)`: how the stand-ins there were called, one line each."""
  return lambda folder: (folder / 'calls').read_text().splitlines()


@pytest.fixture
def checkout(tmp_path):
  """A folder with the scripts and a configuration, where programs can be put in place of the real one."""
  shutil.copytree(ROOT / 'launch', tmp_path / 'launch')
  shutil.copytree(ROOT / 'configs', tmp_path / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
  return tmp_path


UV = """#!/usr/bin/env bash
# `uv venv ... FOLDER` and `uv pip install ... --requirement=FILE`; a line in plan/uv is an installation that fails.
if [[ $1 == venv ]]; then
  mkdir -p "${@: -1}/bin" && ln -sf "$CLOUD/worker/program" "${@: -1}/bin/python"
elif [[ -s $CLOUD/plan/uv ]]; then
  sed -i 1d "$CLOUD/plan/uv"
  echo 'error: Failed to fetch a package' >&2
  exit 2
else
  for word; do [[ $word != --requirement=* || -f ${word#*=} ]] || exit 2; done
fi
"""
PYTHON = """#!/usr/bin/env bash
# The system's python3 of a worker, which installs uv and nothing else.
[[ "$*" == '-m pip install --quiet --user uv' ]] || { echo "$*: not here" >&2; exit 1; }
mkdir -p ~/.local/bin && cp "$CLOUD/worker/uv" ~/.local/bin/uv
"""


def commit(folder):
  """A repository with what the launch scripts send to the workers, as it is in this checkout."""
  for name in ('launch', 'configs'):
    shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
  for path in ROOT.glob('requirements*.txt'):
    shutil.copy(path, folder)
  for words in ('init --quiet', 'add .', '-c user.name=test -c user.email=test commit --quiet --message=all'):
    subprocess.run(['git', *words.split()], cwd=folder, check=True, timeout=60)
  return folder


class Cloud:
  """The folder of `cloud.py`, and what a test does with it."""

  def __init__(self, folder):
    self.folder = folder
    for name in ('requests', 'nodes', 'buckets', 'disks', 'plan', 'bin', 'worker'):
      (folder / name).mkdir(parents=True)
    here = pathlib.Path(__file__).parent
    self.add('bin/gcloud', f'#!/bin/sh\nexec {sys.executable} -S -E {here}/cloud.py "$@"\n')
    self.add('bin/ssh-add', '#!/bin/sh\nexit 2\n')  # no agent
    self.add('worker/program', f'#!/bin/sh\nexec {sys.executable} -S -E {here}/program.py "$@"\n')
    self.add('worker/uv', UV)
    self.add('worker/python3', PYTHON)
    self.checkout = commit(folder / 'checkout')
    self.environment = {
      'CLOUD': str(folder),
      'TMPDIR': str(folder),
      'POLL_SECONDS': '0.05',
      'CMPE_JAX_LOG_SECONDS': '1',
      'PATH': f'{folder}/bin:{os.environ["PATH"]}',
      'HOME': str(folder),
    }

  def add(self, name, text):
    (self.folder / name).write_text(text)
    (self.folder / name).chmod(0o755)

  def plan(self, kind, *events):
    (self.folder / 'plan' / kind).write_text(''.join(f'{event}\n' for event in events))

  def calls(self, *words):
    """How often commands with all these words were called."""
    lines = (self.folder / 'calls').read_text().splitlines()
    return sum(all(word in line for word in words) for line in lines)

  def checkpoints(self, run='b/run'):
    return {
      int(path.parent.name): path.read_text()
      for path in (self.folder / 'buckets' / run / 'checkpoints').glob('[0-9]*/value')
    }

  def logs(self, run='b/run'):
    return {path.name: path.read_text() for path in (self.folder / 'buckets' / run / 'logs').glob('*.log')}

  def requests(self):
    return {path.name: json.loads(path.read_text())['state'] for path in (self.folder / 'requests').glob('*')}

  def run(self, script, *arguments, **environment):
    """Runs a script to its end, as the fixture `launch` does."""
    return subprocess.run(
      ['bash', f'{self.checkout}/launch/{script}', *arguments],
      env=os.environ | self.environment | environment,
      capture_output=True,
      text=True,
      timeout=60,
    )

  def start(self, script, *arguments, **environment):
    """The script as a process that goes on; its output is lines of text."""
    return subprocess.Popen(
      ['bash', f'{self.checkout}/launch/{script}', *arguments],
      env=os.environ | self.environment | environment,
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
    )


@pytest.fixture
def cloud(tmp_path):
  """A cloud without slices; its programs end with the test."""
  made = Cloud(tmp_path / 'cloud')
  yield made
  for entry in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      if f'CLOUD={made.folder}'.encode() in (entry / 'environ').read_bytes():
        os.kill(int(entry.name), signal.SIGKILL)
    except OSError:
      continue


@pytest.fixture
def wait_for():
  """`wait_for(condition, seconds=60)` returns when `condition()` is true."""

  def wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
      assert time.monotonic() < end
      time.sleep(0.05)

  return wait
