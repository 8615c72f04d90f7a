"""What a compiler says that programs cost, for a device that need not be there; each compiled once and kept."""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import files
from cmpe_jax.tools.benchmark import fusions, programs
from cmpe_jax.tools.shared import chips, cost, hlo

FLAGS = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS')  # what changes a compilation from outside
COMPILERS = {'cuda': ('jax-cuda13-plugin', 'nvidia-cudnn-cu13')}  # packages; of every other platform 'libtpu'
LARGEST = 6  # arrays of a program


class Store:
  """A JSON file {'about': {...}, 'cells': {name: {...}}}, written anew after every cell."""

  def __init__(self, path: pathlib.Path | None, about: dict[str, Any]):
    """Without a path nothing is kept. Raises `UserError`: the file is not of this kind, or about something else."""
    self._path, self._about = path, about
    found = read(path)
    old = found['about']
    for key in about.keys() - {'versions'} if old else ():
      if old.get(key) != about[key]:
        raise UserError(
          f'--json={path} holds figures of {key}={old.get(key)!r}, and this command asks for {about[key]!r}: '
          'name another file.'
        )
    self.cells: dict[str, dict[str, Any]] = found['cells']

  def put(self, name: str, values: dict[str, Any]) -> None:
    """Keeps one cell, and those that another command has written meanwhile. Raises `UserError` if it cannot."""
    if self._path is None:
      self.cells |= {name: values}
      return
    with files.chosen(self._path, 'json'), files.alone(self._path):
      self.cells = read(self._path)['cells'] | {name: values}
      write(self._path, self._about, dict(sorted(self.cells.items())))


def write(path: pathlib.Path, about: dict[str, Any], cells: dict[str, Any]) -> None:
  """Replaces the file at once, so that it is never half written. A cell is a line. Raises `UserError` if it cannot."""
  lines = ',\n'.join(f'  {json.dumps(name)}: {json.dumps(values)}' for name, values in cells.items())
  files.write(path, f'{{\n "about": {json.dumps(about)},\n "cells": {{\n{lines}\n }}\n}}\n', 'json')


def read(path: pathlib.Path | None) -> dict[str, dict[str, Any]]:
  """What `write` wrote; nothing if there is no file. Raises `UserError`: it is something else."""
  if path is None or not path.exists():
    return {'about': {}, 'cells': {}}
  try:
    found = json.loads(path.read_text())
    return {'about': dict(found['about']), 'cells': dict(found['cells'])}
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f'--json={path} is not a file of this command: name another one, or delete it.') from error


def of_setting(
  config: ml_collections.ConfigDict,
  setting: programs.Setting,
  device: jax.Device,
  kept: dict[str, Any] | None,
  say: Callable[[str], None],
  folder: pathlib.Path | None = None,
) -> dict[str, Any]:
  """The cost of a setting's program on one device: `kept`, if that is of this very program, else compiled now.

  Args:
    config: see `programs.program`.
    setting: which program.
    device: for which the compiler works.
    kept: what an earlier call gave for this setting.
    say: takes a line about what takes long.
    folder: that gets the optimized program as text.

  Returns:
    {'program': a hash of the lowered program, the compiler's version and its flags, 'accessed', 'flops',
    'multiplications', 'kernels': see `cost.Cost`, 'temporary', 'peak': bytes, 'largest': `hlo.largest`, 'seconds': that
    compiling took, 'groups': `fusions.groups`}.
  """
  lowered = programs.program(config, setting, device).lower(chips.platform(device))
  key = _key(lowered.as_text(), device)
  if kept and kept['program'] == key and kept.keys() >= set(cost.Cost._fields):  # version 1.0 counted less
    return kept
  say(f'compiling {setting.name} ...')
  began = time.perf_counter()
  compiled: Any = lowered.compile()
  seconds, text = time.perf_counter() - began, compiled.as_text()
  if folder:
    files.write(folder / f'{setting.name.replace(" ", "_")}.txt', text, 'programs')
  found = {'program': key, **cost.of_program(lowered, compiled)._asdict(), **programs.memory(compiled)}
  return found | {'largest': hlo.largest(text, LARGEST), 'seconds': seconds, 'groups': fusions.groups(text)}


def versions(*extra: str) -> dict[str, str]:
  """Of the packages that make the programs; '-' for one that is not there."""
  found = {}
  for name in ('jax', 'jaxlib', 'flax', *extra):
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = '-'
  return found


def compilers(device: jax.Device) -> tuple[str, ...]:
  """The packages that compile for a device."""
  return COMPILERS.get(chips.platform(device), ('libtpu',))


def _key(text: str, device: jax.Device) -> str:
  made_by = json.dumps(versions(*compilers(device)))
  parts = [text, device.device_kind, made_by] + [os.environ.get(name, '') for name in FLAGS]
  return hashlib.sha256('\0'.join(parts).encode()).hexdigest()
