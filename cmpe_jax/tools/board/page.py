"""The page of the board, in Markdown."""

import functools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cmpe_jax import config as configuration
from cmpe_jax import names
from cmpe_jax.data.datasets import known_folders
from cmpe_jax.tools.board import pictures
from cmpe_jax.tools.board.gathered import Gathered, identity
from cmpe_jax.tools.shared import paired, paper, rows, variants

TITLES = {'cifar10': 'CIFAR-10', 'cifar100': 'CIFAR-100'}
HEAD = """# Results

`python -m cmpe_jax.tools.board` draws this page from the files in [results/](results), which
[`compare`](tools.md#compare) wrote. It refuses a file whose hash, recipe or seeds do not fit, which is a guard against
slips, not against deceit, and computes means and intervals again from the figures of every run.
[CONTRIBUTING.md](../CONTRIBUTING.md#to-fill-a-cell) says how to fill a cell.

## Measured here
"""
PAPER = """
## The paper's networks

Test error in percent **as the paper reports it** (arXiv 1807.08920), and beside it what was measured here: mean,
{confidence:.0%} interval of the mean, number of runs. The configurations follow the published recipes of the networks.
`-`: not reported. The paper's best are folded 3x3 networks with mixup: 2.45 on CIFAR-10, 15.62 on CIFAR-100. It has
results on SVHN and ImageNet too, but their figures were not available to us.

![Dots for each network and gate, as the paper has them; those of pair_1x1 lie left of those of se and of none, with and
without mixup.](results.svg)
"""
OPEN = """
## What is open

A command for the open cells of each network, and the hours that one of its runs takes at least on one NVIDIA H100: at
the bounds of [the plan](tools.md#plan), which no run reaches, for `pair_1x1` on CIFAR-10. Other gates, CIFAR-100 and
mixup change little, and the images lie on the chip, so that no CPU cores read them.
"""


def page(found: Sequence[Gathered], hours: Mapping[str, float]) -> str:
  """The whole of it; `hours`: that one run takes at least, by network."""
  parts = [HEAD, *(_measured(each) for each in found)] if found else [HEAD, '\nNothing yet.\n']
  parts.append(PAPER.format(confidence=paired.CONFIDENCE))
  for dataset, title in TITLES.items():
    parts.append(f'\n### {title}\n\n' + _papers(dataset, found))
  parts.append('\n`python docs/results.py` draws the picture from these tables.\n')
  if lines := list(_open(found, hours)):
    parts.append(OPEN)
    heading = ['network', 'command', 'hours at least']
    parts.append('\n' + table([heading, *lines]))
  return ''.join(parts)


def table(lines: Sequence[Sequence[str]]) -> str:
  """Markdown; the first line is the heading."""
  rule = ['---'] * len(lines[0])
  return ''.join(f'| {" | ".join(line)} |\n' for line in (lines[0], rule, *lines[1:])).replace('|  |', '| |')


def _measured(each: Gathered) -> str:
  """A recipe: its table, and what made it."""
  measured = rows.table(each.rows(), each.references, len(each.seeds))
  lines = [
    [f'`{line[0]}`' if line[0] else '', *line[1:-2]] for line in measured
  ]  # times of several machines say little
  files = ', '.join(f'[{path.name}](results/{path.name})' for path in each.files)
  changes = ''.join(f', `{key}={value}`' for key, value in each.changes().items())
  epochs = variants.epochs(each.values('epochs').values())
  weights = variants.weights(each.values('ema_decay').values())
  counts = {run['count'] for runs in each.runs.values() for run in runs.values()} or {each.images}
  said = (
    f'{epochs}{"; the" if epochs else "The"} {weights} after the last step, on {variants.images(counts)}. Mean '
    f'± standard deviation over the seeds; differences are paired by seed, with the {paired.CONFIDENCE:.0%} interval '
    f'of Student\'s t, each for itself; "{paired.NONE}": it covers 0.'
  )
  still = [f'open gates: {said}' for said in missing(each)]
  points = [f'files: {files}', *still, f'command: `{command(each)}`', *origins(each)]
  images = set(each.values('dataset').values())
  known = known_folders.about(images.pop()) if len(images) == 1 else ''
  about = f'{known}\n\n' if known else ''
  drawn = pictures.name(each)
  picture = f'![Test error and training loss over the epochs.](results/{drawn})\n\n' if drawn else ''
  return f'\n### `{each.config}`{changes}\n\n{about}{table(lines)}\n{said}\n\n{picture}' + ''.join(
    f'* {each}\n' for each in points
  )


def command(each: Gathered) -> str:
  """What repeats the runs, or adds those that are missing."""
  keys = [shlex.quote(f'--config.{key}={_given(key, value)}') for key, value in each.changes().items()]
  compared = f'--gates={",".join(comparable([*each.variants]))}' if each.varied == ['model.gate'] else '--sweep'
  first = [f'--config.seed={min(each.seeds)}'] if min(each.seeds) else []
  seeds = f'--seeds={max(max(each.seeds) - min(each.seeds) + 1, 2)}'
  given = [f'--config=configs/{each.config}.py', *keys, compared, *first, seeds]
  return ' '.join(['python -m cmpe_jax.tools.compare', *given, f'--results=docs/results/{each.files[0].name}'])


def missing(each: Gathered) -> list[str]:
  """What to say of the gates without a run, if gates are what is compared."""
  gates = [gate for gate in names.GATES if each.varied == ['model.gate'] and not each.runs.get(gate)]
  given = ','.join(comparable(gates))
  return [f'`--gates={given}` in place of the one in the command below adds the gates without a run.'] if gates else []


def comparable(gates: Sequence[str]) -> list[str]:
  """Gates for one command, which needs two."""
  return list(gates) if len(gates) > 1 else ['se' if 'none' in gates else 'none', *gates]


def _given(key: str, value: Any) -> Any:
  """A value as a flag takes it."""
  if key == 'dataset' and str(value).startswith('folder:'):
    return 'folder:PATH'
  return tuple(value) if isinstance(value, list) else value


def origins(each: Gathered) -> list[str]:
  """A line each way in which the runs were made, with the runs and the days."""
  made: dict[str, list[tuple[str, str]]] = {}
  for name, seeds in each.runs.items():
    for seed, run in seeds.items():
      origin = run.get('origin') or {}
      versions = ', '.join(f'{name} {version}' for name, version in origin.get('versions', {}).items())
      commit = origin.get('commit', '')
      code = f'commit {commit[:12]}{", with changes" * commit.endswith("+")}' if commit else 'an unknown commit'
      machine = f'{origin.get("devices", "unknown devices")}, {origin.get("processor", "an unknown processor")}'
      made.setdefault(f'{code}; {versions}; {machine}', []).append((origin.get('date', ''), f'{name} {seed}'))
  return [
    f'{len(runs)} {"run" if len(runs) == 1 else "runs"}, {_days(day for day, _ in runs)}: {text}'
    for text, runs in made.items()
  ]


def _days(given: Iterable[str]) -> str:
  days = sorted(set(given))
  return days[0] if len(days) == 1 else f'{days[0]} to {days[-1]}'


def _papers(dataset: str, found: Sequence[Gathered]) -> str:
  """The table of a dataset: the paper's figures and ours, without and with mixup."""
  lines, last = [['configs/', 'gate', 'paper', 'ours', 'with mixup', 'ours']], ''
  for net, gates in paper.ERRORS.items():
    for gate, figures in gates.items():
      line = [f'`{dataset}_{net}`' if net != last else '', f'`{gate}`']
      for (data, alpha), figure in zip(paper.SETTINGS, figures, strict=True):
        if data == dataset:
          errors = ours(found, dataset, net, gate, alpha)
          line += ['-' if figure is None else f'{figure:.2f}', shown(errors, figure is not None)]
      lines.append(line)
      last = net
  return table(lines)


def ours(found: Sequence[Gathered], dataset: str, net: str, gate: str, alpha: float) -> list[float]:
  """Our test errors for a cell of the paper, in percent, one a run."""
  name = f'{dataset}_{net}'
  mine = [each for each in found if each.config == name and each.varied == ['model.gate']]
  return [
    error for each in mine if each.identity == _recipe(name, alpha) for error in each.errors({'model.gate': gate})
  ]


@functools.cache
def _recipe(name: str, alpha: float) -> dict[str, object]:
  config = configuration.load(name)
  config.mixup_alpha = alpha
  return identity(config, ['model.gate'])


def shown(errors: Sequence[float], is_wanted: bool) -> str:
  """'5.41 [5.30, 5.52], n=3'; 'open' if there is no run and one is wanted."""
  if len(errors) > 1:
    low, high = paired.interval(errors)
    return f'{sum(errors) / len(errors):.2f} [{low:.2f}, {high:.2f}], n={len(errors)}'
  return f'{errors[0]:.2f}, n=1' if errors else rows.OPEN if is_wanted else '-'


def _open(found: Sequence[Gathered], hours: Mapping[str, float]) -> Iterable[list[str]]:
  """A row a configuration with open cells."""
  for number, (dataset, alpha) in enumerate(paper.SETTINGS):
    for net, gates in paper.ERRORS.items():
      missing = [
        gate
        for gate, figures in gates.items()
        if figures[number] is not None and not ours(found, dataset, net, gate, alpha)
      ]
      if missing:
        name, mixup = f'{dataset}_{net}', '_mixup' if alpha else ''
        given = [f'--config=configs/{name}.py', *([f'--config.mixup_alpha={alpha:g}'] if alpha else [])]
        words = [
          *given,
          f'--gates={",".join(comparable(missing))}',
          '--seeds=3',
          f'--results=docs/results/{name}{mixup}.json',
        ]
        wanted = f'`python -m cmpe_jax.tools.compare {" ".join(words)}`'
        yield [f'`{name}`{", mixup" if alpha else ""}', wanted, f'{hours[net]:.2g}' if net in hours else '-']
