"""`cmpe_jax.train` as a notebook or a service calls it: in a thread, in float64, with no command around it."""

import subprocess
import sys

CODE = """
import signal, sys, threading
import cmpe_jax
config = cmpe_jax.config.load('digits')
config.model.update({'block': 'basic', 'depth': 8})
config.update({'epochs': 0.1, 'warmup_epochs': 0.0, 'dtype': 'float64', 'batch_size': 256})
before = signal.getsignal(signal.SIGINT)
failed = []

def run():
  try:
    cmpe_jax.train(config, sys.argv[1])
  except BaseException as error:
    failed.append(error)
    raise

thread = threading.Thread(target=run)
thread.start()
thread.join()
assert not failed
assert signal.getsignal(signal.SIGINT) is before
kinds = {str(leaf.dtype) for leaf in __import__('jax').tree.leaves(cmpe_jax.load_model(sys.argv[1])[1])}
assert kinds == {'float64'}, kinds
"""


def test_a_thread_trains_in_float64(tmp_path):
  done = subprocess.run([sys.executable, '-c', CODE, str(tmp_path / 'run')], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert 'truncated' not in done.stderr  # as JAX says where float64 is not allowed
