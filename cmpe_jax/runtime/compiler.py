"""What the compiler is told for one kind of program, where its own choice is known to be slower."""

import functools
import os

import jax
from jax.sharding import Mesh

LIBRARY = 'xla_cpu_experimental_ynn_fusion_type'
OWN_CONVOLUTIONS = {
  LIBRARY: ','.join(f'LIBRARY_FUSION_TYPE_{part}' for part in ('DOT', 'INDIVIDUAL_DOT', 'REDUCE', 'ELTWISE'))
}


def for_training(mesh: Mesh) -> dict[str, str]:
  """The `compiler_options` of a training step on these devices: {} but on CPUs.

  There XLA gives convolutions to a library, which takes two to three times as long as XLA's own code for the gradients
  of kernels (8 maps of 56x56x64: 71 and 153 GFLOP/s, 128 of 16x16x32: 62 and 150; 2 cores with AVX-512). Without that,
  training took 0.77 to 0.87 of the processor's time (ResNet-20 on 32x32, ResNet-50 on 224x224), for half as much memory
  again. Not for inference, which took 1.05 to 1.25 of it.

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
