"""docs/own_network.py: a gate in a network that is not ours learns, and docs/library.md shows that very file."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
FILE = ROOT / 'docs' / 'own_network.py'


def test_the_loss_falls():
  done = subprocess.run(
    [sys.executable, '-m', 'docs.own_network'],
    cwd=ROOT,
    env=os.environ | {'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
    timeout=200,
  )
  assert done.returncode == 0, done.stderr
  before, after = map(float, re.findall(r'\d+\.\d+', done.stdout))
  assert after < before


def test_the_page_shows_the_file():
  assert f'```python\n{FILE.read_text()}```\n' in (ROOT / 'docs' / 'library.md').read_text()
