"""From the start of `python -m cmpe_jax.main` to its first finished step, without and with compiled programs kept.

    python -m benchmarks.first_step --config configs/cifar10_resnet164.py --rounds=10 --json=benchmarks/first_step.json

Each run is a process of its own, on one batch of random images in a folder. "drawn" is the program as it is: initial
values are drawn with NumPy. "jit" initializes as is common, by `jax.jit(model.init)`, all else equal.
"""

import argparse
import itertools
import json
import os
import pathlib
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from PIL import Image

from cmpe_jax.runtime.printing import aligned

ROOT = pathlib.Path(__file__).resolve().parents[1]
INITS = ('drawn', 'jit')
PHASES = ('start', 'init', 'prepare', 'compile', 'step')
MARK = 'MARK'  # of the lines that say which phase begins


def run_main(init: str, arguments: list[str]) -> None:
  """In the measured process: `cmpe_jax.main`, which also says when initialization and compilations begin and end."""
  sys.argv[1:] = arguments
  import jax
  import jax.numpy as jnp

  from cmpe_jax.models import initializers
  from cmpe_jax.models.precision import at_least_float32

  drawn = initializers.init

  def jit_init(model: Any, key: jax.Array, image_size: int) -> dict[str, Any]:
    image = jnp.zeros((1, image_size, image_size, 3), at_least_float32(model.dtype))
    variables = jax.device_get(jax.jit(model.init)(key, image))
    return {name: variables[name] for name in ('params', 'batch_stats')}

  def init_and_say(*args: Any) -> dict[str, Any]:
    print(MARK, 'init', flush=True)
    variables = (drawn if init == 'drawn' else jit_init)(*args)
    print(MARK, 'prepare', flush=True)
    return variables

  def say(event: str, seconds: float, **_: Any) -> None:
    if event == '/jax/core/compile/backend_compile_duration' and seconds > 0.2:
      print(MARK, 'step', flush=True)  # unless another compilation follows

  initializers.init = init_and_say
  jax.monitoring.register_event_duration_secs_listener(say)
  runpy.run_module('cmpe_jax.main', run_name='__main__', alter_sys=True)


def measure(
  init: str, config: str, overrides: list[str], images: pathlib.Path, cache: pathlib.Path
) -> dict[str, float]:
  """Seconds of each phase of one run, and their sum."""
  with tempfile.TemporaryDirectory() as workdir:
    arguments = [
      f'--config={config}',
      f'--workdir={workdir}',
      f'--config.dataset=folder:{images}',
      '--config.epochs=1',
      *overrides,
    ]
    environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': str(cache)}
    began = last = time.perf_counter()
    seconds, phase, lines = dict.fromkeys(PHASES, 0.0), 'start', []
    command = [sys.executable, '-m', 'benchmarks.first_step', '--child', init, *arguments]
    process = subprocess.Popen(
      command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
      now = time.perf_counter()
      lines.append(line)
      follows = None
      if line.startswith(MARK):
        follows = line.split()[1]
      elif line.startswith('compiling'):
        follows = 'compile'
      done = line.startswith('step 1/1')
      if done or follows and not (follows == 'step' and phase in ('start', 'init', 'prepare')):
        again = phase == follows == 'step'  # that was not the last compilation
        seconds['compile' if again else phase] += now - last
        last, phase = now, follows or phase
      if done:
        process.kill()
        process.wait()
        return seconds | {'total': now - began}
  raise SystemExit(f'{" ".join(command)} did not finish a step:\n' + ''.join(lines[-20:]))


def write_images(folder: pathlib.Path, batch_size: int, side: int) -> None:
  """A class folder with one batch to train on."""
  random = np.random.default_rng(0)
  for split, count in (('train', batch_size), ('test', 10)):
    for number in range(count):
      file = folder / split / f'class{number % min(10, batch_size)}' / f'{number}.png'
      file.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(file)


def table(found: dict[str, dict[str, list[dict[str, float]]]]) -> str:
  """A row a configuration, initialization and state of the cache; medians of the rounds."""
  rows = [['seconds', 'init', 'cache', *PHASES, 'total']]
  for name, ways in found.items():
    for way, rounds in ways.items():
      medians = [statistics.median(one[phase] for one in rounds) for phase in (*PHASES, 'total')]
      rows.append([name, *way.split(), *(f'{value:.1f}' for value in medians)])
  return aligned(rows, left=3)


def main() -> None:
  """The command."""
  if sys.argv[1:2] == ['--child']:
    return run_main(sys.argv[2], sys.argv[3:])
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--config', nargs='+', default=['configs/cifar10_resnet164.py'], help='configuration files')
  parser.add_argument('--inits', nargs='+', choices=INITS, default=INITS, help='ways to initialize')
  parser.add_argument('--batch_size', type=int, default=128)
  parser.add_argument('--rounds', type=int, default=1)
  parser.add_argument('--json', type=pathlib.Path, help='a file that gets the numbers')
  options, overrides = parser.parse_known_args()
  overrides.append(f'--config.batch_size={options.batch_size}')
  from cmpe_jax.tools.benchmark import costs
  from cmpe_jax.tools.shared import origin

  about = {'batch_size': options.batch_size, **origin.machine(), 'versions': costs.versions()}
  found: dict[str, dict[str, list[dict[str, float]]]] = {}
  began, done, runs = time.perf_counter(), 0, options.rounds * len(options.config) * len(options.inits) * 2
  with tempfile.TemporaryDirectory() as images:
    write_images(pathlib.Path(images), options.batch_size, side=32)
    for number, config, init in itertools.product(range(options.rounds), options.config, options.inits):
      name = pathlib.Path(config).stem
      with tempfile.TemporaryDirectory() as cache:
        for state in ('cold', 'warm'):
          left = f', ETA {(time.perf_counter() - began) / done * (runs - done) / 60:.0f} min' if done else ''
          done += 1
          said = f'round {number + 1}: {name}, {init}, {state} ({done} of {runs}{left}) ...'
          print(said, file=sys.stderr, flush=True)
          seconds = measure(init, config, overrides, pathlib.Path(images), pathlib.Path(cache))
          found.setdefault(name, {}).setdefault(f'{init} {state}', []).append(seconds)
      if options.json:  # each pair of them, which takes minutes
        options.json.write_text(json.dumps({'about': about, 'configs': found}, indent=1) + '\n')
  print(' '.join(f'{key}={value}' for key, value in about.items()) + '\n')
  print(table(found))
  return None


if __name__ == '__main__':
  main()
