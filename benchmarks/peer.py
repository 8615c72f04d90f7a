"""timm's seresnet50 in PyTorch against our SE-50 and CMPE-50 on this CPU: images/s of training and of inference.

    pip install -r requirements-peer.txt
    python -m benchmarks.peer --json=benchmarks/peer.json

Each side lives in a process of its own, because their thread pools would disturb each other in one. Only one works at a
time: they take turns, and who does not measure waits for its standard input. Both have the same --threads cores.
float32, SGD with Nesterov momentum and weight decay, random images.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
WAYS = {
  'torch': ('timm, eager', 'timm, eager, channels_last', 'timm, compile'),
  'jax': ('se', 'pair_1x1'),
}
MODES = ('infer', 'train')
TURN, REST = 2.0, 0.5  # seconds of a turn, at least; and before it, until the other side's threads no longer spin


def torch_turns(options: argparse.Namespace, way: str, mode: str) -> tuple[Callable[[], Any], int]:
  """(one call of timm's network in PyTorch, its number of parameters)."""
  import timm
  import torch

  torch.set_num_threads(options.threads)
  torch.manual_seed(0)
  model = timm.create_model('seresnet50', pretrained=False)
  layout = torch.channels_last if 'channels_last' in way or 'compile' in way else torch.contiguous_format
  model = model.to(memory_format=layout).train(mode == 'train')
  images = torch.randn(options.batch_size, 3, options.image_size, options.image_size).to(memory_format=layout)
  labels = torch.randint(0, 1000, (options.batch_size,))
  parameters = sum(parameter.numel() for parameter in model.parameters())
  called = torch.compile(model) if 'compile' in way else model
  if mode == 'infer':

    def infer() -> None:
      with torch.inference_mode():
        called(images)

    return infer, parameters
  optimizer = torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.9, nesterov=True, weight_decay=1e-4)

  def train() -> None:
    optimizer.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(called(images), labels).backward()
    optimizer.step()

  return train, parameters


def jax_turns(options: argparse.Namespace, way: str, mode: str) -> tuple[Callable[[], Any], int]:
  """(one call of our network's own training step or inference, its number of parameters)."""
  from cmpe_jax.runtime import start

  start.before_imports()
  import jax

  from cmpe_jax import recipes
  from cmpe_jax.tools.benchmark import programs
  from cmpe_jax.training import state

  config = recipes.imagenet(depth=50, gate=way)
  config.update({'dtype': 'float32', 'batch_size': options.batch_size, 'image_size': options.image_size})
  config.model.gate_bias = way == 'se'  # as timm's
  program = programs.program(config, programs.Setting('post', way, 'fused', mode), jax.devices()[0])
  call = program.lower('cpu').compile()
  first, *rest = program.arguments()
  parameters = state.count(first.params if mode == 'train' else first['params'])

  def infer() -> None:
    jax.block_until_ready(call(first, *rest))

  def train() -> None:
    nonlocal first
    first, _ = jax.block_until_ready(call(first, *rest))

  return (train if mode == 'train' else infer), parameters


def work(options: argparse.Namespace) -> None:
  """A worker: makes its ways ready one by one, then answers each line `WAY|MODE` with the seconds of a call."""
  calls, counts = {}, {}
  make = {'torch': torch_turns, 'jax': jax_turns}[options.worker]
  for line in sys.stdin:
    way, mode = line.strip().split('|')
    if (way, mode) not in calls:
      began = time.perf_counter()
      call, parameters = make(options, way, mode)
      call()
      ready = time.perf_counter() - began
      began = time.perf_counter()
      call()
      counts[way, mode] = max(1, math.ceil(TURN / (time.perf_counter() - began)))
      calls[way, mode] = call
      answer = {'ready': ready, 'parameters': parameters}
    else:
      began = time.perf_counter()
      for _ in range(counts[way, mode]):
        calls[way, mode]()
      answer = {'seconds': (time.perf_counter() - began) / counts[way, mode]}
    print(json.dumps(answer), flush=True)


class Worker:
  """One of the two processes."""

  def __init__(self, options: argparse.Namespace, side: str):
    """Starts it; it waits."""
    python = options.torch_python if side == 'torch' else sys.executable
    names = ('batch_size', 'image_size', 'threads')
    arguments = [f'--{name}={getattr(options, name)}' for name in names] + [f'--worker={side}']
    environment = os.environ | {'OMP_NUM_THREADS': str(options.threads), 'JAX_PLATFORMS': 'cpu'}
    cores = sorted(os.sched_getaffinity(0))[: options.threads]
    self._process = subprocess.Popen(
      [python, '-m', 'benchmarks.peer', *arguments],
      cwd=ROOT,
      env=environment,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )

  def ask(self, way: str, mode: str) -> dict[str, float]:
    """Lets it work and waits for its answer. Ends this program if it fails."""
    assert self._process.stdin is not None
    assert self._process.stdout is not None
    time.sleep(REST)
    try:
      self._process.stdin.write(f'{way}|{mode}\n')
      self._process.stdin.flush()
      return json.loads(self._process.stdout.readline())
    except (BrokenPipeError, json.JSONDecodeError):
      raise SystemExit(
        f'the process for {way!r} failed (see above); PyTorch: pip install -r requirements-peer.txt'
      ) from None

  def end(self) -> None:
    """Its input ends, and so does it."""
    assert self._process.stdin is not None
    self._process.stdin.close()
    self._process.wait()


def measure(options: argparse.Namespace) -> dict[str, Any]:
  """{way: {mode: {'ready': seconds, 'parameters', 'rounds': seconds a call}}}"""
  chosen = {way: side for side, ways in WAYS.items() for way in ways if way in options.ways}
  workers = {side: Worker(options, side) for side in dict.fromkeys(chosen.values())}
  found: dict[str, Any] = {}
  for way, side in chosen.items():
    for mode in MODES:
      print(f'making ready: {way}, {mode} ...', file=sys.stderr, flush=True)
      found.setdefault(way, {})[mode] = workers[side].ask(way, mode) | {'rounds': []}
  for number in range(options.rounds):
    print(f'round {number + 1} of {options.rounds} ...', file=sys.stderr, flush=True)
    for mode in MODES:
      for way, side in chosen.items():
        found[way][mode]['rounds'].append(round(workers[side].ask(way, mode)['seconds'], 6))
  for worker in workers.values():
    worker.end()
  return found


def table(found: dict[str, Any], batch_size: int) -> str:
  """A row a way and mode; the ratio is of images/s to timm's fastest way in that mode, round by round."""
  lines = [f'{"":32} {"images/s":>8} {"(range)":>13} {"of timm":>8} {"(range)":>11} {"first call":>10}']
  for mode in MODES:
    theirs = [found[way][mode]['rounds'] for way in WAYS['torch'] if way in found]
    best = min(theirs, key=statistics.median, default=None)
    for way, modes in found.items():
      rounds = modes[mode]['rounds']
      rates = sorted(batch_size / seconds for seconds in rounds)
      ratio, spread = '-', ''
      if best:
        ratios = sorted(other / own for own, other in zip(rounds, best, strict=True))
        ratio, spread = f'{statistics.median(ratios):.2f}', f'({ratios[0]:.2f}-{ratios[-1]:.2f})'
      span = f'({rates[0]:.2f}-{rates[-1]:.2f})'
      name = way if way.startswith('timm') else f'ours, {way}'
      first = f'{modes[mode]["ready"]:.1f} s'
      lines.append(
        f'{mode + ": " + name:32} {statistics.median(rates):8.2f} {span:>13} {ratio:>8} {spread:>11} {first:>10}'
      )
  return '\n'.join(lines)


def versions(python: str) -> dict[str, str]:
  """Of what is compared."""
  code = 'import importlib.metadata as m, json; print(json.dumps({n: m.version(n) for n in NAMES}))'
  found = {}
  for command, names in ((python, ('torch', 'timm')), (sys.executable, ('jax', 'flax'))):
    done = subprocess.run([command, '-c', code.replace('NAMES', repr(names))], capture_output=True, text=True)
    if done.returncode:
      raise SystemExit(f'{" and ".join(names)} are not installed for {command}: pip install -r requirements-peer.txt')
    found |= json.loads(done.stdout)
  return found


def main() -> None:
  """The command."""
  every = [way for ways in WAYS.values() for way in ways]
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--batch_size', type=int, default=8)
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
  parser.add_argument('--rounds', type=int, default=10)
  parser.add_argument('--ways', nargs='+', choices=every, default=every, metavar='WAY', help=f'of {every}')
  parser.add_argument('--torch_python', default=sys.executable, help='the Python that has torch and timm')
  parser.add_argument('--json', type=pathlib.Path, help='a file that gets the numbers')
  parser.add_argument('--worker', choices=tuple(WAYS), help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.worker:
    return work(options)
  from cmpe_jax.tools.shared import origin  # not for the worker that needs PyTorch only

  sizes = {name: getattr(options, name) for name in ('batch_size', 'image_size', 'threads')}
  about = sizes | origin.machine() | {'versions': versions(options.torch_python)}
  found = measure(options)
  if options.json:
    options.json.write_text(json.dumps({'about': about, 'ways': found}, indent=1) + '\n')
  print(' '.join(f'{key}={value}' for key, value in about.items()) + '\n')
  print(table(found, options.batch_size))
  return None


if __name__ == '__main__':
  main()
