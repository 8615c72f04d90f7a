"""The start of a command, in the order that its libraries need; nothing else sets up memory, caches or types."""

from cmpe_jax.runtime import cache, memory


def before_imports() -> None:
  """What must be done before NumPy and JAX are imported. `command.run` calls it."""
  memory.keep()


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
