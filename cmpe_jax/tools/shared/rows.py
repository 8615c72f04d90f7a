"""The table of a comparison, from the figures of its runs: a row a variant, whatever runs are still missing."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from cmpe_jax.tools.shared import paired
from cmpe_jax.tools.shared.results import Result

OPEN = 'open'
REFERENCES = ('se', 'none')
Runs = Mapping[str, Mapping[int, Result]]  # by variant, then by seed


@dataclasses.dataclass(frozen=True)
class Row:
  """What is known of one variant, over its seeds.

  Attributes:
    name: of the variant.
    parameters: trainable ones.
    seeds: of its runs, in order.
    accuracies: on the test split, from 0 to 1, one a seed.
    losses: the same.
    mean, deviation: of the accuracies, in percent; nan without a run, and without two.
    seconds: of training, mean a run; nan without a run.
    speed: images a second; nan without a run.
    differences: to each reference with which it shares two seeds, in percentage points of accuracy.
  """

  name: str
  parameters: int
  seeds: list[int]
  accuracies: list[float]
  losses: list[float]
  mean: float
  deviation: float
  seconds: float
  speed: float
  differences: dict[str, paired.Difference]


def references(names: Iterable[str]) -> list[str]:
  """What the others are compared with: se and none, and where neither is there the first of the variants."""
  given = list(names)
  return [name for name in REFERENCES if name in given] or given[:1]


def rows(runs: Runs, references: Sequence[str], parameters: Mapping[str, int]) -> list[Row]:
  """A row for each variant of `runs`, in that order."""
  percent = {name: {seed: 100 * run['accuracy'] for seed, run in found.items()} for name, found in runs.items()}
  made = []
  for name, found in runs.items():
    results = [found[seed] for seed in sorted(found)]
    mean, deviation = paired.moments([percent[name][seed] for seed in sorted(found)])
    seconds = sum(result['seconds'] for result in results)
    made.append(
      Row(
        name=name,
        parameters=parameters[name],
        seeds=sorted(found),
        accuracies=[result['accuracy'] for result in results],
        losses=[result['loss'] for result in results],
        mean=mean,
        deviation=deviation,
        seconds=seconds / len(results) if results else math.nan,
        speed=sum(result['images'] for result in results) / seconds if seconds else math.nan,
        differences=_differences(name, percent, references),
      )
    )
  return made


def _differences(
  name: str, percent: Mapping[str, Mapping[int, float]], references: Sequence[str]
) -> dict[str, paired.Difference]:
  found = {}
  for other in references:
    shared = sorted(percent[name].keys() & percent.get(other, {}).keys())
    if other != name and len(shared) > 1:
      found[other] = paired.difference(*([percent[which][seed] for seed in shared] for which in (name, other)))
  return found


def table(rows: Sequence[Row], references: Sequence[str], seeds: int) -> list[list[str]]:
  """The heading and a row a variant, as text; `seeds`: how many of each there shall be."""
  heading = ['', 'runs', 'test accuracy', *(f'accuracy minus {name}' for name in references)]
  lines = [[*heading, 'test error', 'parameters', 'training', 'images/s']]
  for row in rows:
    runs = f'{len(row.seeds)}' if len(row.seeds) >= seeds else f'{len(row.seeds)} of {seeds}'
    compared = ['-' if row.name == name else shown(row.differences.get(name)) for name in references]
    costs = [f'{row.parameters:,}', *([f'{row.seconds:.0f} s', f'{row.speed:,.0f}'] if row.seeds else ['-', '-'])]
    lines.append([row.name, runs, spread(row.mean, row), *compared, spread(100 - row.mean, row), *costs])
  return lines


def spread(value: float, row: Row) -> str:
  """'99.54 ± 0.16 %', without a deviation for one run, 'open' for none."""
  if not row.seeds:
    return OPEN
  return f'{value:.2f} ± {row.deviation:.2f} %' if len(row.seeds) > 1 else f'{value:.2f} %'


def shown(found: paired.Difference | None) -> str:
  """'+0.11 [-0.25, +0.47] no difference shown'; 'open' where there are no two pairs yet."""
  if found is None:
    return OPEN
  if math.isnan(found.low):
    return f'{found.mean:+.2f} {found.verdict}'
  return f'{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}] {found.verdict}'
