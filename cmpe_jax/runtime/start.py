"""The start of a command, in the order that its libraries need; nothing else sets up memory, caches or types."""

import os
import pathlib
import time

from cmpe_jax.errors import UserError, check_choice
from cmpe_jax.runtime import cache, memory

PLATFORM = 'CMPE_JAX_PLATFORM'  # set by the launchers: what a run shall be computed on
WHAT_TO_DO = {
  'gpu': (
    'look at nvidia-smi and /dev/nvidia*, install a driver for CUDA 13 (580 or later), or use '
    'requirements-gpu-cuda12.txt with an older one'
  ),
  'tpu': (
    'look for /dev/accel* or /dev/vfio/*, install requirements-tpu.txt, and end other programs that hold the chips'
  ),
  'cpu': 'set JAX_PLATFORMS=cpu',
}


_begun: list[float] = []  # when this process began, by time.time(); empty: it is no command of ours, or was asked


def before_imports() -> None:
  """What must be done before NumPy and JAX are imported. `command.run` calls it."""
  memory.keep()
  _begun[:] = [_process_began()]


def seconds_before() -> float:
  """Seconds that a command has taken until it asks; 0 if it asks again, and in other programs."""
  return max(time.time() - _begun.pop(), 0.0) if _begun else 0.0


def _process_began() -> float:
  """By time.time(); now, where the system does not say."""
  try:
    after_boot = int(pathlib.Path('/proc/self/stat').read_text().rpartition(')')[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - after_boot / os.sysconf('SC_CLK_TCK')
  except (OSError, AttributeError, IndexError, ValueError):  # no Linux
    age = 0.0
  return time.time() - max(age, 0.0)


def jax(dtype: str = 'float32', cached: bool = True, workdir: str = '') -> None:
  """Sets JAX up for computations of `dtype`; with `cached` compiled programs are kept between runs.

  `workdir`: of a run, which may be in a bucket.
  """
  import jax as library

  if cached:
    cache.compile_cache(workdir)
  else:
    library.config.update('jax_enable_compilation_cache', False)
  library.config.update('jax_enable_x64', dtype == 'float64')


def types(dtype: str) -> None:
  """Lets JAX compute in `dtype`, where no command has: a program that calls the library may have other uses of it."""
  import jax as library

  if dtype == 'float64':
    library.config.update('jax_enable_x64', True)


def check_platform() -> None:
  """Holds JAX's platform against CMPE_JAX_PLATFORM, if that is set: else a run would train on the CPU unseen.

  It makes JAX look for devices, so it must come after `processes.start`.

  Raises:
    UserError: another one, none, or a value that is not a platform.
  """
  import jax as library

  wanted = os.environ.get(PLATFORM)
  if not wanted:
    return
  check_choice(PLATFORM, wanted, tuple(WHAT_TO_DO))
  try:
    found, why = repr(library.default_backend()), ''
  except RuntimeError as error:
    found, why = 'none', f' ({str(error).splitlines()[0]})'
  if found != repr(wanted):
    raise UserError(
      f'{PLATFORM}={wanted}, but JAX found only the platform {found}{why}: {WHAT_TO_DO[wanted]}; unset {PLATFORM} to '
      'train on it anyway.'
    )
