"""Versions and devices, of all processes."""

import importlib.metadata
import os
import platform
import re
import socket
from typing import Any

import jax

from cmpe_jax.errors import UserError
from cmpe_jax.runtime.start import PLATFORM

LIBRARIES = r'jax|jaxlib|flax|libtpu|jax-cuda\d+-(plugin|pjrt)'


def versions() -> dict[str, str]:
  """{'Python': '3.12.1', 'jax': ...}, with what drives TPUs and GPUs where it is installed."""
  found = {'Python': platform.python_version()}
  for part in importlib.metadata.distributions():
    name = part.metadata['Name']
    if name and re.fullmatch(LIBRARIES, name):
      found[name] = part.version
  return {name: found[name] for name in sorted(found, key=lambda name: (name != 'Python', name != 'jax', name))}


def tell_versions(every: list[dict[str, str]]) -> str:
  """One line. Raises `UserError` if processes differ."""
  for process, other in enumerate(every):
    names = [name for name in every[0] | other if every[0].get(name) != other.get(name)]
    if names:
      said = ', '.join(f'{name} {other.get(name, "missing")} against {every[0].get(name, "missing")}' for name in names)
      raise UserError(
        f'process {process} has other versions than process 0 ({said}): install the same on all machines.'
      )
  return ', '.join(f'{name} {version}' for name, version in every[0].items())


def tell_platform(every: list[None]) -> str:
  """One line."""
  wanted = os.environ.get(PLATFORM)
  return f'{jax.default_backend()}, ' + (f'as {PLATFORM} says' if wanted else f'and {PLATFORM} is not set')


def devices() -> dict[str, Any]:
  """This process's host, platform, devices and memory. Raises `UserError` if JAX finds none."""
  try:
    found = jax.local_devices()
  except RuntimeError as error:
    raise UserError(f'JAX finds no devices ({str(error).splitlines()[0]}): look at its driver and plugin.') from error
  return {
    'host': socket.gethostname(),
    'number': len(found),
    'kinds': sorted({f'{device.device_kind} ({device.platform})' for device in found}),
    'memory': memory(),
  }


def memory() -> int:
  """Bytes that a program may use on each device of this process, the smallest of them; 0: they do not say."""
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  return min(int(values.get('bytes_limit', 0)) for values in stats)


def tell_devices(every: list[dict[str, Any]]) -> str:
  """A line for all, and one for each of several processes. Raises `UserError` if they have other devices."""
  first = every[0]
  for process, other in enumerate(every):
    if (other['number'], other['kinds']) != (first['number'], first['kinds']):
      raise UserError(
        f'process {process} ({other["host"]}) has {_list(other)}, process 0 ({first["host"]}) has {_list(first)}: all '
        'need the same; look at the machine with fewer.'
      )
  whole = {**first, 'number': sum(other['number'] for other in every)}
  least = min(other['memory'] for other in every)
  size = f', {least / 2**30:,.1f} GiB each' if least else ', which do not say how much memory they have'
  lines = [_list(whole) + size]
  if len(every) > 1:
    lines[0] += f', {len(every)} processes'
    lines += [f'process {process}: {_list(other)} on {other["host"]}' for process, other in enumerate(every)]
  return '\n'.join(lines)


def _list(found: dict[str, Any]) -> str:
  return f'{found["number"]} x {" and ".join(found["kinds"])}'
