"""Running the launch scripts, with stand-ins for the clouds' commands that write down how they were called."""

import os
import pathlib
import shutil
import subprocess

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
