"""Where a result comes from: code, versions, machine and day."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax

import cmpe_jax
from cmpe_jax.runtime.machine import processor_lines

ROOT = pathlib.Path(cmpe_jax.__file__).parents[1]
CODE = ('cmpe_jax', 'configs', 'requirements.txt')  # what a result depends on; other commits change nothing


def origin() -> dict[str, Any]:
  """Of a training run: {'commit', 'versions', 'devices', 'date', 'processor', 'python'}; nobody's name is in it.

  `commit` is the last one that changed `CODE`, with '+' where that has changed since; '' outside of a checkout.
  """
  devices = jax.devices()
  versions = {name: importlib.metadata.version(name) for name in ('jax', 'jaxlib', 'flax', 'optax')}
  return {
    'commit': commit(ROOT),
    'versions': {'cmpe_jax': cmpe_jax.__version__} | versions,
    'devices': f'{len(devices)} x {devices[0].device_kind}',
    **machine(),
  }


def machine() -> dict[str, str]:
  """{'date', 'processor', 'python'}: what was measured on, and when."""
  names = [line.partition(':')[2].strip() for line in processor_lines('model name')]
  return {
    'date': datetime.date.today().isoformat(),
    'processor': f'{os.cpu_count()} cores of {names[0] if names else platform.machine()}',
    'python': platform.python_version(),
  }


def commit(root: pathlib.Path) -> str:
  """See `origin`."""
  if not (root / '.git').exists():
    return ''
  last = _git(root, 'log', '-1', '--format=%H', '--', *CODE)
  return last + '+' * bool(last and _git(root, 'status', '--porcelain', '--', *CODE))


def _git(root: pathlib.Path, *words: str) -> str:
  try:
    return subprocess.run(['git', '-C', str(root), *words], capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):  # no git, or a checkout that it does not trust
    return ''
