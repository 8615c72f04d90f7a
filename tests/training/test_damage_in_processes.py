"""Several processes agree on which checkpoint is damaged, and go on together."""

import os
import socket
import subprocess
import sys

import pytest

CONFIG = """
from cmpe_jax.config import base

def get_config():
  config = base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'se'})
  config.update({'batch_size': 64, 'epochs': 0.62, 'checkpoint_every_steps': 5})
  return config
"""


def train(tmp_path):
  """Exit codes and outputs of two processes."""
  (tmp_path / 'small.py').write_text(CONFIG)
  with socket.socket() as found:
    found.bind(('localhost', 0))
    address = f'localhost:{found.getsockname()[1]}'
  command = [sys.executable, '-m', 'cmpe_jax.main', f'--config={tmp_path}/small.py', f'--workdir={tmp_path}/run']
  command += [f'--coordinator_address={address}', '--num_processes=2']
  started = [
    subprocess.Popen(
      [*command, f'--process_id={process}'],
      env=os.environ | {'XLA_FLAGS': ''},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for process in range(2)
  ]
  outputs = [process.communicate(timeout=300)[0] for process in started]
  return [process.returncode for process in started], outputs


@pytest.mark.slow
def test_two_processes_put_a_damaged_checkpoint_aside(tmp_path):
  codes, outputs = train(tmp_path)
  assert codes == [0, 0], outputs
  place = tmp_path / 'run' / 'checkpoints' / '14'
  largest = max((path for path in place.rglob('*') if path.is_file()), key=lambda path: path.stat().st_size)
  data = bytearray(largest.read_bytes())
  for i in range(1, 200):
    data[len(data) * i // 200] ^= 1
  largest.write_bytes(data)
  codes, outputs = train(tmp_path)
  assert codes == [0, 0], outputs
  assert f'it lies in {place.parent}/damaged/14 now' in outputs[0]
  assert 'going on from the checkpoint at step 10' in outputs[0]
  assert place.exists()
