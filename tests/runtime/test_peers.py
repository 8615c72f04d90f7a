"""Peers that die, and faults that only look like it: real processes, joined by JAX's own distributed runtime."""

import pytest
from harness import begin, free_address

from cmpe_jax.runtime import peers

PROGRAM = """
import ctypes, os, signal, sys, time
from cmpe_jax.runtime import command, processes

address, me, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
processes.HEARTBEAT = 4


def dies(computing):
  import jax, numpy as np
  from cmpe_jax.runtime import mesh as meshes
  mesh = meshes.make()
  x = jax.make_array_from_callback((2, 1000), meshes.batch_sharding(mesh), lambda index: np.ones((1, 1000), np.float32))
  call = jax.jit(lambda x: x.sum(), out_shardings=meshes.replicated(mesh))
  for step in range(10**6):
    assert float(call(x)) == 2000
    if me == 1 and step == 100:
      os.kill(os.getpid(), signal.SIGKILL)
    if not computing:
      time.sleep(100)


def impossible():
  import jax
  jax.jit(lambda: jax.ffi.ffi_call('no_such_target', jax.ShapeDtypeStruct((2,), 'float32'))())()


def aborts():
  if me == 1:
    ctypes.CDLL(None).abort()
  time.sleep(100)


def body():
  processes.start(address, 2, me)
  {'computing': lambda: dies(True), 'impossible': impossible, 'aborts': aborts}[what]()


sys.exit(command.run(body, ['peers']))
"""


def both(what):
  """Exit codes and outputs of two processes."""
  address = free_address()
  started = [begin(['-c', PROGRAM, address, str(process), what]) for process in range(2)]
  outputs = [process.communicate(timeout=120)[0] for process in started]
  return [process.returncode for process in started], outputs


def test_a_computation_whose_peer_is_killed_can_be_retried():
  codes, outputs = both('computing')
  assert codes == [75, -9], outputs
  # Which of the two notices it first, the heartbeat or the computation, is chance.
  assert 'lost contact with another process' in outputs[0] or 'failed, as when one of them ends' in outputs[0]
  assert 'Traceback' not in outputs[0]


def test_a_program_that_does_not_compile_is_not_retried():
  codes, outputs = both('impossible')
  assert codes == [1, 1], outputs
  assert all('NOT_FOUND: No FFI handler registered for no_such_target' in output for output in outputs)


@pytest.mark.slow
def test_an_abort_of_its_own_stays_one_and_only_the_other_has_lost_a_peer():
  codes, outputs = both('aborts')
  assert codes == [75, -6], outputs
  assert 'lost contact with another process' in outputs[0]
  assert 'aborted by a fault in native code of this process' in outputs[1]
  assert 'lost contact' not in outputs[1]


@pytest.mark.parametrize(
  ('message', 'lost'),
  [
    ('UNKNOWN: Gloo all-reduce failed: [external/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer', True),
    ('UNAVAILABLE: Failed to send RPC to coordination service.', True),
    ('DEADLINE_EXCEEDED: Barrier timed out.', True),
    ('INTERNAL: NCCL operation async_err failed: remote process exited or there was a network error', True),
    ('INVALID_ARGUMENT: Executable expected 2 arguments', False),
    ('UNIMPLEMENTED: float64 convolution', False),
    ('INTERNAL: Mosaic failed to compile the kernel', False),
    ('INTERNAL: NCCL operation ncclAllReduce(...) failed: invalid argument', False),
  ],
)
def test_what_is_a_lost_peer(message, lost):
  assert peers.is_lost(message) == lost
