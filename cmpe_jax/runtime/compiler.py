"""What the compiler is told for one kind of program, where its own choice is known to be slower."""

import functools
import os

import jax
from jax.sharding import Mesh

LARGE = 128  # pixels of an image's side: between 32 and 224, which were measured
LIBRARY = 'xla_cpu_experimental_ynn_fusion_type'
OWN_CONVOLUTIONS = {
  LIBRARY: ','.join(f'LIBRARY_FUSION_TYPE_{part}' for part in ('DOT', 'INDIVIDUAL_DOT', 'REDUCE', 'ELTWISE'))
}


def for_training(mesh: Mesh, image_size: int) -> dict[str, str]:
  """The `compiler_options` of a training step on these devices: {} but for large images on CPUs.

  There XLA gives convolutions to a library, which takes two to four times as long as XLA's own code for the gradients
  of 3x3 kernels (8 maps of 56x56x64: 71 and 25 ms, 8 of 28x28x128: 62 and 16; processor time with AVX-512). Without
  that a ResNet-50 on 224x224 trained 1.10 times as fast, for half as much memory again. A ResNet-20 on 32x32 gained 2 %
  only, and inference lost 5 % (224x224) and 20 % (32x32): they leave the choice to XLA.

  A version of XLA that does not know the option does without; who sets it in XLA_FLAGS keeps what is there.
  """
  large = image_size >= LARGE and mesh.devices.flat[0].platform == 'cpu'
  if not large or LIBRARY in os.environ.get('XLA_FLAGS', ''):
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
