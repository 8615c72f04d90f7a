"""Compiled programs that are kept between runs."""

import os
import subprocess
import sys

from harness import ROOT

USES = """
import sys, warnings
from cmpe_jax.runtime import cache
cache.compile_cache()
import jax, jax.numpy as jnp
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
warnings.simplefilter('error')
jax.jit(lambda x: jnp.cos(x) @ x * float(sys.argv[1]))(jnp.ones((8, 8))).block_until_ready()
"""


def test_what_was_half_written_does_not_keep_it_from_being_written(tmp_path):
  """A process that ends while JAX writes a program leaves a part of it, without the time of its last use."""

  def run(number):
    environment = {name: value for name, value in os.environ.items() if name != 'JAX_COMPILATION_CACHE_DIR'}
    done = subprocess.run(
      [sys.executable, '-c', USES, str(number)],
      cwd=ROOT,
      env=environment | {'HOME': str(tmp_path), 'XLA_FLAGS': ''},
      capture_output=True,
      text=True,
      timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, '')
    return sorted((tmp_path / '.cache' / 'cmpe_jax' / 'programs').glob('*/*-cache'))

  (first, *others) = run(1)
  first.write_bytes(first.read_bytes()[:100])
  first.with_name(first.name.removesuffix('-cache') + '-atime').unlink()
  assert len(run(2)) > len(others)
  run(1)
  assert first.stat().st_size > 100
