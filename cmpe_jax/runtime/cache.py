"""Compiled programs, kept between runs."""

import hashlib
import os
import pathlib
import platform

from cmpe_jax.runtime.machine import processor_lines


def compile_cache() -> None:
  """Keeps compiled programs between runs, in JAX_COMPILATION_CACHE_DIR or ~/.cache/cmpe_jax.

  One folder per kind of processor, because a home directory may be shared by machines whose instruction sets differ.
  A cache that cannot be used is left out: JAX itself only warns about entries that it cannot read or write.
  """
  import jax

  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    try:
      kind = '\n'.join([platform.machine(), *sorted(set(processor_lines('model name', 'flags')))])
      place = pathlib.Path.home() / '.cache' / 'cmpe_jax' / hashlib.sha256(kind.encode()).hexdigest()[:12]
      place.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
      return
    jax.config.update('jax_compilation_cache_dir', str(place))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
