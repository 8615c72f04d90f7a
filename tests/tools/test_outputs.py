"""What all tools have in common: where they write, and a reader of their lines that goes away."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest
from harness import ROOT, run_module

import cmpe_jax
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import files

TOOLS = ROOT / 'cmpe_jax' / 'tools'
DIGITS = ('--config=configs/digits.py', '--config.model.block=basic', '--config.model.depth=8')


@pytest.mark.parametrize(
  ('tool', 'arguments', 'flag'),
  [
    ('export', ('--weights=digits',), '--output'),
    ('visualize', ('--pretrained=digits',), '--output'),
    ('compare', (*DIGITS, '--gates=none,se', '--seeds=2', '--workdir=TMP'), '--results'),
    ('compare', (*DIGITS, '--gates=none,se', '--seeds=2'), '--workdir'),
    ('summary', DIGITS, '--json'),
    ('summary', ('--workdir=TMP',), '--json'),
    ('plan', (*DIGITS, '--topology=cpu:1'), '--json'),
    ('benchmark', ('step', *DIGITS), '--json'),
    ('benchmark', ('step', *DIGITS, '--topology=cpu:1'), '--programs'),
    ('benchmark', ('input', '--images=TMP'), '--json'),
    ('board', ('--readme=',), '--output'),
    ('board', ('--output=TMP/page.md',), '--readme'),
    ('board', ('--readme=', '--output=TMP/page.md'), '--results'),
  ],
)
def test_a_bucket_is_refused_and_no_folder_of_its_name_appears(tool, arguments, flag, tmp_path):
  given = [argument.replace('TMP', str(tmp_path)) for argument in arguments]
  done = run_module(f'cmpe_jax.tools.{tool}', *given, f'{flag}=gs://bucket/a/b.json')
  assert done.returncode == 2, done.stdout + done.stderr
  assert f'error: {flag}=gs://bucket/a/b.json is in a bucket, but this is written to a disk' in done.stderr
  assert 'Traceback' not in done.stderr
  assert not (ROOT / 'gs:').exists()
  assert list(tmp_path.iterdir()) == []


def test_weights_that_travel_are_not_written_into_a_bucket_either(workdir, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match='gs:/bucket/digits/model.safetensors is in a bucket'):
    cmpe_jax.save_pretrained(str(workdir), 'gs://bucket/digits')
  assert list(tmp_path.iterdir()) == []


def test_paths_of_this_machine(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert files.local('~/a.json', 'json') == tmp_path / 'a.json'
  assert files.local('a:b/c', 'json') == pathlib.Path('a:b/c')


def test_a_file_is_tried_before_the_work_and_nothing_stays(tmp_path):
  files.check(tmp_path / 'new' / 'a.json', 'json')
  assert list((tmp_path / 'new').iterdir()) == []
  for path in (tmp_path / 'new', pathlib.Path('/etc/passwd/x.json'), pathlib.Path('/proc/x.json')):
    with pytest.raises(UserError, match=f'{path} cannot be written .*: give another --json'):
      files.check(path, 'json')


@pytest.mark.parametrize(
  ('tool', 'arguments'),
  [
    ('summary', DIGITS),
    ('predict', ('--pretrained=digits', 'docs/compare_phone.png')),
  ],
)
def test_a_reader_that_goes_away_is_no_error(tool, arguments, tmp_path):
  read, write = os.pipe()
  os.close(read)
  done = subprocess.run(
    [sys.executable, '-m', f'cmpe_jax.tools.{tool}', *arguments],
    cwd=ROOT,
    env=os.environ | {'XLA_FLAGS': '', 'PYTHONUNBUFFERED': '1'},
    stdout=write,
    stderr=subprocess.PIPE,
    text=True,
    timeout=200,
  )
  os.close(write)
  assert done.returncode == 0, done.stderr
  assert 'Error' not in done.stderr


def test_tools_print_through_the_line_that_outlives_its_reader():
  for path in TOOLS.rglob('*.py'):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    printed = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == 'print']
    assert not printed, f'{path}, line {printed[0]}: use printing.line'
