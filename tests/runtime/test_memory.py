"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from cmpe_jax.runtime import memory
if sys.argv[1] == 'keep':
  memory.keep()
import jax, jax.numpy as jnp
x = jnp.ones((4096, 4096))
call = jax.jit(lambda x: x + 1)  # 64 MiB; glibc keeps up to 32 MiB by itself
for _ in range(40):  # the heap grows for up to a dozen calls, since an aligned array needs more room
  call(x).block_until_ready()
faults = []
for _ in range(21):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  call(x).block_until_ready()
  faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[10])
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='glibc')
def test_calls_no_longer_fault_their_memory_in_again(monkeypatch):
  """By default every call faults in the pages of what it allocates: 4 KiB each, or 2 MiB where the kernel likes."""
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  faults = {
    way: int(subprocess.run([sys.executable, '-c', CODE, way], capture_output=True, check=True, text=True).stdout)
    for way in ('default', 'keep')
  }
  assert faults['default'] > 10
  assert faults['keep'] < 0.2 * faults['default'], faults
