"""Memory of programs that run on CPUs."""

import ctypes
import importlib.metadata
import importlib.util
import os
import sys

ARENA_MAX, MMAP_MAX, TRIM_THRESHOLD = -8, -4, -1  # glibc's malloc.h: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD


def keep() -> None:
  """Lets glibc keep what a program frees, if programs run on CPUs here.

  Before NumPy and JAX are imported, because their threads may get heaps of their own; later it does nothing.
  XLA allocates the arrays of each step anew. By default glibc gives them back to the kernel, which clears every page
  of the next step's again: 300,000 page faults and an eighth of the time of a ResNet-50's training step.
  mallopt(3): no trimming, no mappings, and one heap, because only the first can be as large as a step needs.
  Another C library is left alone. The price: such a step's process held 3.7 GB where it holds 2.8 by default.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform == 'linux' else None
  if mallopt is None or not sys.modules.keys().isdisjoint(('numpy', 'jax')) or not _on_cpus():
    return
  for parameter, value in ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, -1)):
    mallopt(parameter, value)


def _on_cpus() -> bool:
  """Whether JAX can choose nothing else; importing JAX to ask it would start threads."""
  chosen = os.environ.get('JAX_PLATFORMS')
  if chosen:
    return chosen == 'cpu'
  plugins = importlib.metadata.entry_points(group='jax_plugins')
  return not plugins and not any(importlib.util.find_spec(name) for name in ('jax_plugins', 'libtpu'))
