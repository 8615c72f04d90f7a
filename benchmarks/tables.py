"""Writes the tables of docs/speed.md from the numbers in benchmarks/*.json: `python -m benchmarks.tables`.

A table stands between the lines `<!-- NAME -->` and `<!-- /NAME -->`, NAME being a file's without .json.
"""

import json
import pathlib
import re
import statistics
from collections.abc import Callable
from typing import Any

from cmpe_jax import names

HERE = pathlib.Path(__file__).resolve().parent
Found = dict[str, Any]
TURNS = 'All take turns; medians of the rounds, in brackets the range:'
PAGE = HERE.parent / 'docs' / 'speed.md'


def costs(found: Found) -> str:
  """Bytes accessed relative to the network without a gate, by gate and form; orders and modes beside one another."""
  cells = found['cells']
  columns = [(mode, order) for mode in ('infer', 'train') for order in ('pre', 'post') if _none(order, mode) in cells]
  rows = [['gate', 'form', *(f'{mode}, {order}' for mode, order in columns)]]
  rows.append(['`none`', '', *(f'{cells[_none(order, mode)]["accessed"] / 1e9:.2f} GB' for mode, order in columns)])
  for gate, form in dict.fromkeys(tuple(name.split()[1:3]) for name in cells):
    if gate != 'none':
      own = [cells.get(f'{order} {gate} {form} {mode}') for mode, order in columns]
      none = [cells[_none(order, mode)] for mode, order in columns]
      rows.append([f'`{gate}`', form, *(_ratio(a, b) for a, b in zip(own, none, strict=True))])
  rows[2:] = sorted(rows[2:], key=_place)
  return markdown(rows)


def _place(row: list[str]) -> tuple[int, bool]:
  """Where a row stands: gates in the order of `names.GATES`, those that are not in it last; the fused form second."""
  gates, gate = list(names.GATES), row[0].strip('`')
  return gates.index(gate) if gate in gates else len(gates), row[1] == 'fused'


def _none(order: str, mode: str) -> str:
  return f'{order} none - {mode}'


def _ratio(own: Found | None, none: Found) -> str:
  return f'{own["accessed"] / none["accessed"]:.3f}' if own else '-'


def times(found: Found) -> str:
  """Images/s and the time relative to the network without a gate."""
  rows = [['', 'gate', 'form', 'images/s', 'time / time of `none`', 'peak', 'compiled in']]
  for name, own in found['cells'].items():
    _, gate, form, mode = name.split()
    ratio = _spread(own['ratio'].values()) if 'ratio' in own else '-'
    peak, compiling = f'{own["peak"] / 1e9:.2f} GB', f'{own["compiling"]:.0f} s'
    rows.append([mode, f'`{gate}`', form, f'{own["images_per_second"]:.1f}', ratio, peak, compiling])
  return markdown(rows)


def peer(found: Found) -> str:
  """Images/s of each way, and relative to timm's fastest."""
  ways, size = found['ways'], found['about']['batch_size']
  rows = [['', 'train, images/s', "of timm's best", 'infer, images/s', "of timm's best"]]
  best = {}
  for mode in ('train', 'infer'):
    theirs = [modes[mode]['rounds'] for way, modes in ways.items() if way.startswith('timm')]
    best[mode] = min(theirs, key=statistics.median)
  for way, modes in ways.items():
    row = [way if way.startswith('timm') else f'ours, `{way}`']
    for mode in ('train', 'infer'):
      rounds = modes[mode]['rounds']
      ratios = [other / own for own, other in zip(rounds, best[mode], strict=True)]
      rate = size / statistics.median(rounds)
      row += [f'{rate:.2f}', _spread([statistics.median(ratios), min(ratios), max(ratios)], digits=2)]
    rows.append(row)
  return markdown(rows)


def first_step(found: Found) -> str:
  """Seconds by phase; medians of the rounds."""
  phases = list(next(iter(next(iter(found['configs'].values())).values()))[0])
  rows = [['', 'initialization', 'cache', *phases]]
  for name, ways in found['configs'].items():
    for way, rounds in ways.items():
      medians = [statistics.median(one[phase] for one in rounds) for phase in phases]
      rows.append([f'`{name}`', *way.split(), *(f'{value:.1f}' for value in medians)])
  return markdown(rows)


def reading(found: Found) -> str:
  """Images a CPU-second of ours and of tf.data."""
  rows = [['photos', 'ours', 'tf.data', 'ratio']]
  for source, ways in found['sources'].items():
    ours, theirs = (way['images_per_cpu_second'] for way in ways.values())
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    medians = [f'{statistics.median(values):.0f}' for values in (ours, theirs)]
    rows.append([source, *medians, _spread([statistics.median(ratios), min(ratios), max(ratios)], digits=2)])
  return markdown(rows)


def _spread(values: Any, digits: int = 3) -> str:
  median, low, high = values
  return f'{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})'


def markdown(rows: list[list[str]]) -> str:
  """A table whose first row is its head."""
  lines = [f'| {" | ".join(row)} |' for row in rows]
  return '\n'.join([lines[0], '|' + '---|' * len(rows[0]), *lines[1:]])


def caption(about: Found) -> str:
  """On what, with what and when."""
  parts = [f'batch {about["batch_size"]}'] if 'batch_size' in about else []
  parts += [about[key] for key in ('dtype', 'processor') if key in about]
  parts += [f'one chip of `{about["topology"]}` ({about["device"]}), by its compiler'] if 'topology' in about else []
  parts += [f'{name} {version}' for name, version in about.get('versions', {}).items() if name != 'jaxlib']
  return ', '.join(map(str, parts)) + (f'; {about["date"]}' if 'date' in about else '') + '.'


TABLES: dict[str, tuple[Callable[[Found], str], str]] = {
  'costs_imagenet50': (
    costs,
    'Bytes that a ResNet-50 reads and writes for images of 224x224, relative to the same network without a gate '
    '(`infer`: from images to logits; `train`: a whole training step; `pre`, `post`: the order of activation):',
  ),
  'times_resnet164': (times, f'ResNet-164 on images of 32x32. {TURNS}'),
  'times_imagenet50': (times, f'ResNet-50 on images of 224x224. {TURNS}'),
  'peer': (
    peer,
    '`seresnet50` of timm in PyTorch, and ours, on images of 224x224, in turns. In brackets the range of the '
    "rounds' ratios:",
  ),
  'first_step': (
    first_step,
    'Seconds from the start of `python -m cmpe_jax.main` to its first finished step. `drawn`: as it is; `jit`: with '
    '`jax.jit(model.init)` instead; `warm`: when the same program has run before:',
  ),
  'input': (
    reading,
    'Random-resized crops of 224x224 from JPEG photos, images a CPU-second, our input pipeline and tf.data in turns. '
    'In '
    "brackets the range of the rounds' ratios:",
  ),
}


def filled(text: str) -> str:
  """The text with all its tables written anew from the files that are there."""
  for name, (make, words) in TABLES.items():
    file = HERE / f'{name}.json'
    if file.exists():
      found = json.loads(file.read_text())
      marks = f'<!-- {name} -->', f'<!-- /{name} -->'
      body = f'{marks[0]}\n{words}\n\n{make(found)}\n\n{caption(found["about"])}\n{marks[1]}'
      text = re.sub(f'{marks[0]}.*?{marks[1]}', lambda _, body=body: body, text, flags=re.DOTALL)
  return text


if __name__ == '__main__':
  PAGE.write_text(filled(PAGE.read_text()))
