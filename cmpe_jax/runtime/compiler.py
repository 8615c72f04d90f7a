"""What the compiler is told, where its own choice is known to be slower."""

import functools
import os

import jax
from jax.sharding import Mesh

LIBRARY = 'xla_cpu_experimental_ynn_fusion_type'
OWN_CONVOLUTIONS = {LIBRARY: ','.join(f'LIBRARY_FUSION_TYPE_{part}' for part in ('DOT', 'INDIVIDUAL_DOT', 'REDUCE'))}


def options(mesh: Mesh) -> dict[str, str]:
  """The `compiler_options` of programs for these devices: {} but for CPUs.

  There XLA gives convolutions to a library, which takes two to four times as long as XLA's own code for the gradients
  of 3x3 kernels (8 maps of 56x56x64: 71 and 25 ms, 8 of 28x28x128: 62 and 16; processor time with AVX-512). Products
  and sums it does well; of whatever else it is given too, it first writes down each operand in full size.

  A version of XLA that does not know the option does without; who sets it in XLA_FLAGS keeps what is there.
  """
  if mesh.devices.flat[0].platform != 'cpu' or LIBRARY in os.environ.get('XLA_FLAGS', ''):
    return {}
  return OWN_CONVOLUTIONS if _known() else {}


@functools.cache
def _known() -> bool:
  """Whether this version takes the option, by a program of nothing."""
  try:
    with jax.default_device(jax.local_devices(backend='cpu')[0]):
      jax.jit(lambda: None, compiler_options=OWN_CONVOLUTIONS).lower().compile()
  except jax.errors.JaxRuntimeError:
    return False
  return True
