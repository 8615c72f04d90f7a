"""The training step and the inference of a network by gate and form: time on this device, or cost by a compiler.

`python -m cmpe_jax.tools.benchmark step --config=configs/imagenet_cmpe50.py --config.batch_size=8` runs them in turns
on random data that lie on the device. With `--topology=v5e:2x4` the TPU compiler says what they cost on one chip.
"""

import pathlib
import sys
import time
from typing import Any

import jax
import ml_collections
from absl import flags

from cmpe_jax.config import check
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import command, files, start
from cmpe_jax.runtime.printing import aligned, line
from cmpe_jax.tools.benchmark import costs, times
from cmpe_jax.tools.benchmark.programs import Setting, settings
from cmpe_jax.tools.shared import chips, origin


def main() -> None:
  """The command; `tools.benchmark` defines its flags."""
  options = flags.FLAGS
  config = command.given_config('configs/imagenet_cmpe50.py')
  check(config)
  start.jax(config.dtype, cached=False)  # the time to compile is one of the results
  orders = options.orders or ['pre' if config.model.preact else 'post']
  chosen = settings(orders, options.gates, options.forms, options.modes)
  file = files.local(options.json, 'json') if options.json else None
  if file:
    files.check(file, 'json')  # before the long work
  if options.topology:
    foresee(config, chosen, file)
  elif options.breakdown or options.programs:
    raise UserError('--breakdown and --programs are of --topology, which is not given: add --topology=v5e:2x4.')
  else:
    measure(config, chosen, file)


def measure(config: ml_collections.ConfigDict, chosen: list[Setting], file: pathlib.Path | None) -> None:
  """Runs the programs in turns on the first device and prints their times."""
  device, rounds = jax.devices()[0], flags.FLAGS.rounds
  about = {
    'config': command.config_name(),
    'batch_size': config.batch_size,
    'dtype': config.dtype,
    'device': device.device_kind,
    **origin.machine(),
    'versions': costs.versions(),
  }
  if file and file.exists() and 'topology' in costs.read(file)['about']:
    raise UserError(f'--json={file} holds costs for another device, which took long to find: name another file.')
  runners = {}
  for number, setting in enumerate(chosen):
    say(f'{number + 1} of {len(chosen)}: compiling {setting.name} ...')
    runners[setting.name] = times.Runner(config, setting, device)
  say(f'{rounds} rounds of about {sum(runner.expected for runner in runners.values()):.0f} s ...')
  seconds = times.interleave({name: runner.turn for name, runner in runners.items()}, rounds)
  found = {}
  for setting in chosen:
    runner = runners[setting.name]
    values = times.summary(seconds[setting.name], seconds.get(setting.reference.name), runner.images)
    found[setting.name] = values | runner.memory | {'compiling': runner.compiling}
  line(f'{about["config"]}, batch {config.batch_size}, {config.dtype}, {about["device"]}, {about["processor"]}')
  line(f'medians of {rounds} rounds, in brackets the smallest and the largest; the ratio to none is of the time\n')
  line(aligned(time_rows(found)))
  if file:
    costs.write(file, about, found)  # last: whatever happens to the file, the times are on the console


def time_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
  """The table of times, a row a setting."""
  rows = [['', 'ms', '', 'images/s', 'of none', '', 'peak GB', 'compiled in']]
  for name, own in found.items():
    ratio = own.get('ratio')
    rows.append(
      [
        name,
        f'{own["seconds"]["median"] * 1e3:,.1f}',
        f'({own["seconds"]["low"] * 1e3:,.1f}-{own["seconds"]["high"] * 1e3:,.1f})',
        f'{own["images_per_second"]:,.1f}',
        f'{ratio["median"]:.3f}' if ratio else '-',
        f'({ratio["low"]:.3f}-{ratio["high"]:.3f})' if ratio else '',
        f'{own["peak"] / 1e9:.3f}',
        f'{own["compiling"]:.1f} s',
      ]
    )
  return rows


def foresee(config: ml_collections.ConfigDict, chosen: list[Setting], file: pathlib.Path | None) -> None:
  """Compiles the programs that are not in the file yet, for one chip of the topology, and prints what they cost."""
  options = flags.FLAGS
  if config.accumulate_steps > 1 or config.model.scan_blocks:
    raise UserError(
      'a compiler counts the inside of a loop once: set accumulate_steps=1 and model.scan_blocks=False to compare '
      'costs.'
    )
  device = chips.devices(options.topology)[0][0]
  store = costs.Store(
    file,
    {
      'config': command.config_name(),
      'topology': options.topology,
      'device': device.device_kind,
      'batch_size': config.batch_size,
      'dtype': config.dtype,
      'versions': costs.versions(*costs.compilers(device)),
    },
  )
  programs = files.local(options.programs, 'programs') if options.programs else None
  for number, setting in enumerate(chosen):
    began = time.perf_counter()
    kept = store.cells.get(setting.name)
    found = costs.of_setting(config, setting, device, kept, say, programs)
    if found is not kept:
      store.put(setting.name, found)
      say(f'{number + 1} of {len(chosen)}: {found["accessed"] / 1e9:.2f} GB, {time.perf_counter() - began:.0f} s')
  line(f'{command.config_name()}, batch {config.batch_size}, {config.dtype}, one {device.device_kind}')
  line('bytes accessed (10^9), multiplications of convolutions and matrix products (10^9), and memory of one step\n')
  line(aligned(cost_rows(store.cells, chosen)))
  for setting in chosen if options.breakdown else ():
    line(f'\n{setting.name}: bytes of operands and results, in GB')
    line(aligned(group_rows(store.cells, setting, options.breakdown)))
    line(f'\n{setting.name}: the largest arrays that it writes')
    line(
      aligned([[shape, f'{size / 1e9:.3f} GB', f'x {n}'] for shape, size, n in store.cells[setting.name]['largest']])
    )


def cost_rows(found: dict[str, dict[str, Any]], chosen: list[Setting]) -> list[list[str]]:
  """The table of costs, a row a setting."""
  rows = [['', 'accessed', 'of none', 'GMACs', 'of none', 'kernels', 'temporary', 'of none', 'peak', 'compiled in']]
  for setting in chosen:
    own, none = found[setting.name], found.get(setting.reference.name)
    ratio = {
      key: f'{own[key] / none[key]:.4f}' if none else '-' for key in ('accessed', 'multiplications', 'temporary')
    }
    accessed, products = f'{own["accessed"] / 1e9:.3f}', f'{own["multiplications"] / 1e9:,.1f}'
    temporary, peak = (f'{own[key] / 1e9:.3f}' for key in ('temporary', 'peak'))
    row = [setting.name, accessed, ratio['accessed'], products, ratio['multiplications'], f'{own["kernels"]:,}']
    rows.append([*row, temporary, ratio['temporary'], peak, f'{own["seconds"]:.0f} s'])
  return rows


def group_rows(found: dict[str, dict[str, Any]], setting: Setting, count: int) -> list[list[str]]:
  """The places of a program that move most bytes more or less than without a gate; without a reference, most bytes."""
  own = found[setting.name]['groups']
  none = found.get(setting.reference.name, {'groups': {}})['groups'] if setting != setting.reference else {}
  zero = {'count': 0, 'size': 0, 'outside': 0}
  places = {name: (own.get(name, zero), none.get(name, zero)) for name in sorted(own.keys() | none.keys())}
  rows = [['place', 'instructions', 'bytes', 'without gate', 'more', 'more off the chip']]

  def row(name: str, a: dict[str, int], b: dict[str, int]) -> list[str]:
    numbers = [a['size'], b['size'], a['size'] - b['size'], a['outside'] - b['outside']]
    return [name, f'{a["count"]}', *(f'{number / 1e9:.4f}' for number in numbers)]

  largest = sorted(places.items(), key=lambda item: -abs(item[1][0]['size'] - item[1][1]['size']))
  rows += [row(name, *pair) for name, pair in largest[:count]]
  total = [{key: sum(pair[i][key] for pair in places.values()) for key in zero} for i in (0, 1)]
  return [*rows, row('all', *total)]


def say(text: str) -> None:
  """Progress, on stderr."""
  line(text, sys.stderr)
