"""Compiled programs, kept between runs."""

import contextlib
import hashlib
import os
import pathlib
import platform

import filelock

from cmpe_jax.runtime.machine import processor_lines

LIMIT = 4 * 2**30  # bytes on a disk, of which the longest unused go first


def compile_cache(workdir: str = '') -> None:
  """Keeps compiled programs: in JAX_COMPILATION_CACHE_DIR, beside a run in a bucket, or in ~/.cache/cmpe_jax.

  A run in a bucket goes on from another machine, which finds them there; let a lifecycle rule of the bucket remove old
  ones. On a disk they take `LIMIT` at most, in one folder per kind of processor, because a home directory may be shared
  by machines whose instruction sets differ. A cache that cannot be used is left out: JAX itself only warns about
  entries that it cannot read or write.
  """
  import jax

  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    if '://' in workdir:
      jax.config.update('jax_compilation_cache_dir', f'{workdir.rstrip("/")}/compiled_programs')
    elif place := _own_folder():
      jax.config.update('jax_compilation_cache_dir', str(place))
      jax.config.update('jax_compilation_cache_max_size', LIMIT)
      remove_half_written(place)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def remove_half_written(place: pathlib.Path) -> None:
  """Removes what a process that was ended while it wrote has left: programs without the time of their last use.

  JAX's cache reads all these times before it writes, and would never write again for one that is not there.
  """
  with contextlib.suppress(OSError, filelock.Timeout), filelock.FileLock(place / '.lockfile', timeout=0):  # JAX's own
    for program in place.glob('*-cache'):
      if not program.with_name(program.name.removesuffix('-cache') + '-atime').exists():
        program.unlink(missing_ok=True)


def _own_folder() -> pathlib.Path | None:
  """A folder of this machine's kind; None if there can be none."""
  try:
    kind = '\n'.join([platform.machine(), *sorted(set(processor_lines('model name', 'flags')))])
    name = hashlib.sha256(kind.encode()).hexdigest()[:12]
    place = pathlib.Path.home() / '.cache' / 'cmpe_jax' / 'programs' / name
    place.mkdir(parents=True, exist_ok=True)
  except (OSError, RuntimeError):
    return None
  return place
