"""Writes the tables of docs/speed.md from the numbers in benchmarks/*.json: `python -m benchmarks.tables`.

A table stands between the lines `<!-- NAME -->` and `<!-- /NAME -->`, NAME being a file's without .json.
"""

import json
import pathlib
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from cmpe_jax import names

HERE = pathlib.Path(__file__).resolve().parent
BEFORE = HERE / 'before'
Found = dict[str, Any]
TURNS = 'All take turns; medians of the rounds, in brackets the range:'
BYTES = (
  'Bytes that a ResNet-50 reads and writes for images of 224x224, relative to the same network without a gate in '
  'version 1.0 (`infer`: from images to logits; `train`: a training step; `pre`, `post`: the order of activation). '
  'An arrow leads from version 1.0 to now:'
)
MORE = (
  'Some gates in the fused form: memory, multiplications of convolutions and matrix products relative to no gate, '
  'operations that are begun one after the other (on a GPU kernels), and the largest arrays that they write:'
)
PAGE = HERE.parent / 'docs' / 'speed.md'


def costs(found: Found) -> str:
  """Bytes relative to version 1.0's network without a gate, then what else the gates cost that are trained."""
  return f'{markdown(_bytes(found))}\n\n{MORE}\n\n{markdown(_more(found["cells"]))}'


def _bytes(found: Found) -> list[list[str]]:
  """By gate and form, orders and modes beside one another; before and after where version 1.0 moved something else."""
  cells, before = found['cells'], found.get('before', found)['cells']
  columns = [(mode, order) for mode in ('infer', 'train') for order in ('pre', 'post') if _none(order, mode) in before]
  rows = [['gate', 'form', *(f'{mode}, {order}' for mode, order in columns)]]
  for gate, form in sorted(dict.fromkeys(tuple(name.split()[1:3]) for name in cells), key=_place):
    row = []
    for mode, order in columns:
      sizes = [kept.get(f'{order} {gate} {form} {mode}', {}).get('accessed') for kept in (before, cells)]
      none = before[_none(order, mode)]['accessed']
      texts = [f'{size / 1e9:.2f} GB' if gate == 'none' else f'{size / none:.3f}' for size in sizes if size]
      row.append(' → '.join(dict.fromkeys(texts)) or '-')
    rows.append([f'`{gate}`', form.strip('-'), *row])
  return rows


def _more(cells: Found) -> list[list[str]]:
  """Memory, multiplications and kernels of the gates that are trained, in the fused form."""
  rows = [['', 'gate', 'temporary', 'of `none`', 'peak', 'multiplications', 'kernels', 'largest arrays']]
  for mode, order in ((mode, order) for mode in ('train', 'infer') for order in ('pre', 'post')):
    trained = [name for name in cells if name.startswith(order) and name.endswith('train') and 'reference' not in name]
    for name in sorted((name.replace('train', mode) for name in trained), key=lambda name: _place(name.split()[1:3])):
      own, none = cells[name], cells[_none(order, mode)]
      arrays = ', '.join(f'{count} x {shape}' for shape, _, count in own.get('largest', [])[:2])
      memory = [f'{own["temporary"] / 1e9:.2f} GB', f'{own["temporary"] / none["temporary"]:.3f}']
      products = f'{own["multiplications"] / none["multiplications"]:.3f}'
      row = [f'{mode}, {order}', f'`{name.split()[1]}`', *memory, f'{own["peak"] / 1e9:.2f} GB', products]
      rows.append([*row, f'{own["kernels"]:,}', arrays])
  return rows


def _place(cell: Sequence[str]) -> tuple[int, bool]:
  """Where gate and form stand: in the order of `names.GATES`, gates that are not in it last; the fused form second."""
  gate, form = cell
  gates = list(names.GATES)
  return gates.index(gate) if gate in gates else len(gates), form == 'fused'


def _none(order: str, mode: str) -> str:
  return f'{order} none - {mode}'


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
      seconds = {phase: [one[phase] for one in rounds] for phase in phases}
      cells = [f'{statistics.median(values):.1f}' for values in seconds.values()]
      if len(rounds) > 1:
        total = seconds['total']
        cells[-1] = _spread([statistics.median(total), min(total), max(total)], digits=1)
      rows.append([f'`{name}`', *way.split(), *cells])
  many = f'Medians of {len(rounds)} rounds; in brackets the range of the totals.'
  return markdown(rows) + '\n\n' + (many if len(rounds) > 1 else 'One round.')


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
  'costs_imagenet50_h100': (costs, BYTES),
  'costs_imagenet50_v5e': (costs, BYTES),
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


def _read(file: pathlib.Path) -> Found:
  """The numbers, and below 'before' those that version 1.0 had if they are kept."""
  found, before = json.loads(file.read_text()), BEFORE / file.name
  return found | ({'before': json.loads(before.read_text())} if before.exists() else {})


def filled(text: str) -> str:
  """The text with all its tables written anew from the files that are there."""
  for name, (make, words) in TABLES.items():
    file = HERE / f'{name}.json'
    if file.exists():
      found = _read(file)
      marks = f'<!-- {name} -->', f'<!-- /{name} -->'
      body = f'{marks[0]}\n{words}\n\n{make(found)}\n\n{caption(found["about"])}\n{marks[1]}'
      text = re.sub(f'{marks[0]}.*?{marks[1]}', lambda _, body=body: body, text, flags=re.DOTALL)
  return text


if __name__ == '__main__':
  PAGE.write_text(filled(PAGE.read_text()))
