"""When make installs, and when it makes .venv anew; a stand-in for Python writes down what it is asked for."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
STAND_IN = """#!/bin/sh
case "$*" in
  *'print(sys.version'*) echo {name} ;;
  '-m venv .venv') mkdir -p .venv/bin; cp "$0" .venv/bin/python; touch .venv/pyvenv.cfg; echo '{name} venv' >> calls ;;
  '-m pip'*) shift 5; echo "{name} pip $*" >> calls ;;
  '-m pytest'*) echo '{name} pytest' >> calls ;;
esac
"""
FIRST = ['old venv', 'old pip -r requirements-test.txt', 'old pytest']


@pytest.fixture
def make(tmp_path):
  """Calls `make test` in a folder of its own and returns what Python was asked for meanwhile."""
  for name in ('Makefile', 'requirements.txt', 'requirements-prepare.txt', 'requirements-test.txt'):
    shutil.copy(ROOT / name, tmp_path / name)
  shutil.copy(ROOT / 'tests' / 'oldest.txt', tmp_path / 'oldest.txt')
  for name in ('old', 'new'):
    (tmp_path / name).write_text(STAND_IN.format(name=name))
    (tmp_path / name).chmod(0o755)
  shutil.copy(tmp_path / 'old', tmp_path / 'python3')
  unwanted = ('PYTHON', 'CONSTRAINTS', 'WORKERS', 'PYTEST_ARGS', 'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS')
  environment = {name: value for name, value in os.environ.items() if name not in unwanted}
  environment['PATH'] = f'{tmp_path}:{environment["PATH"]}'

  def call(*words, **more):
    calls = tmp_path / 'calls'
    calls.write_text('')
    words = ['make', 'test', *words]
    done = subprocess.run(words, cwd=tmp_path, env=environment | more, check=True, capture_output=True, text=True)
    assert 'not found' not in done.stderr  # of a .venv that is not there yet, say
    return calls.read_text().splitlines()

  return call


def test_a_second_call_installs_nothing(make):
  assert make() == FIRST
  assert make() == ['old pytest']
  assert make('PYTHON=python3') == ['old pytest']


def test_a_first_call_can_name_a_python(make):
  assert make('PYTHON=./new') == ['new venv', 'new pip -r requirements-test.txt', 'new pytest']
  assert make('PYTHON=./new') == ['new pytest']


@pytest.mark.parametrize('where', ['command line', 'environment'])
def test_another_python_makes_the_environment_anew(make, where):
  words, more = (['PYTHON=./new'], {}) if where == 'command line' else ([], {'PYTHON': './new'})
  assert make() == FIRST
  assert make(*words, **more) == ['new venv', 'new pip -r requirements-test.txt', 'new pytest']
  assert make(*words, **more) == ['new pytest']
  assert make() == ['new pytest']  # no Python is asked for: whichever made .venv


@pytest.mark.parametrize('where', ['command line', 'environment'])
def test_other_constraints_make_the_environment_anew(make, where):
  words, more = (['CONSTRAINTS=oldest.txt'], {}) if where == 'command line' else ([], {'CONSTRAINTS': 'oldest.txt'})
  assert make() == FIRST
  assert make(*words, **more) == ['old venv', 'old pip -r requirements-test.txt -c oldest.txt', 'old pytest']
  assert make(*words, **more) == ['old pytest']
  assert make() == FIRST


@pytest.mark.parametrize('name', ['requirements.txt', 'requirements-test.txt', 'oldest.txt'])
def test_a_changed_file_is_installed_into_the_same_environment(make, tmp_path, name):
  make('CONSTRAINTS=oldest.txt')
  made = (tmp_path / '.venv' / 'installed-test').stat().st_mtime_ns
  os.utime(tmp_path / name, ns=(made + 10**9, made + 10**9))
  assert make('CONSTRAINTS=oldest.txt') == ['old pip -r requirements-test.txt -c oldest.txt', 'old pytest']
