"""Where the time of a run went: `python -m cmpe_jax.tools.summary --workdir=runs/digits`. It needs no JAX."""

import dataclasses
import datetime
import json
from typing import Any

from cmpe_jax.runtime import files, places, printing
from cmpe_jax.runtime.printing import aligned
from cmpe_jax.tools.summary import times
from cmpe_jax.tools.summary.times import LOST, ROWS, Start, Times
from cmpe_jax.training import account, starts

NAMES = {account.DATA: 'waiting for data', account.START: 'start-up', LOST: 'lost and repeated'}
ENDS = {'done': 'done', 'interrupted': 'interrupted, and saved', 'failed': 'failed'}
SMALL = 0.05  # of the time; what takes less is not worth advice


def main(workdir: str, output: str | None) -> None:
  """Prints the account, and writes it as JSON to the file `output`.

  Raises:
    UserError: the run has no account, or one that cannot be read; the file cannot be written.
  """
  file = files.local(output, 'json') if output else None
  found = times.of_records(starts.read(workdir))
  printing.line('\n\n'.join([f'{workdir}\n\n{starts_table(found)}', shares_table(found), *notes(found, workdir)]))
  if file:
    files.write(file, json.dumps(as_json(found), indent=2) + '\n', 'json')


def starts_table(found: Times) -> str:
  """A row a start."""
  rows = [['start', 'began (UTC)', 'ended', 'from step', 'to step', 'of them lost', 'time']]
  for number, start in enumerate(found.starts, 1):
    began = datetime.datetime.fromtimestamp(start.began, datetime.UTC).strftime('%Y-%m-%d %H:%M:%S')
    steps = ['-', '-', '-'] if start.first is None else [f'{x:,}' for x in (start.first, start.done, start.lost)]
    rows.append([str(number), began, _end(found, start), *steps, duration(start.total)])
  return aligned(rows, left=3)


def _end(found: Times, start: Start) -> str:
  last = 'killed, or it goes on' if start is found.starts[-1] else 'killed'
  return ENDS.get(start.ended, last)


def shares_table(found: Times) -> str:
  """Seconds and shares of all starts together, and how long a step took."""
  rows = [['', 'time', 'share'], ['all starts', duration(found.total), '100.0 %']]
  for row in ROWS:
    rows.append(
      [f'  {NAMES.get(row, row)}', duration(found.seconds(row)), f'{_share(found, row):.1%}'.replace('%', ' %')]
    )
  if found.between:
    rows.append(['between the starts', duration(found.between), '-'])
  lines = [
    f'a step at {side}x{side} pixels took {spread.mean:.4g} s, with a deviation of {spread.deviation:.2g} s '
    f'({spread.count:,} steps)'
    for side, spread in found.steps().items()
  ]
  return '\n'.join([aligned(rows), *([''] + lines if lines else [])])


def notes(found: Times, workdir: str) -> list[str]:
  """What is not known, and what to do about the largest loss."""
  said = [
    f'There is no account of the steps {first:,} to {last:,}: a version before 1.1, or another workdir, took them.'
    for first, last in found.unaccounted
  ]
  if places.is_bucket(workdir) and any(not start.ended for start in found.starts[:-1]):
    said.append(
      'Of what was done in the last half minute before a kill, a bucket knows nothing: so much more was lost.'
    )
  return [*said, advice(found)]


def advice(found: Times) -> str:
  """One sentence on the row that took the most besides training."""
  row = max((row for row in ROWS if row not in (account.TRAINING, account.OTHER)), key=found.seconds)
  share = _share(found, row)
  if share < SMALL:
    return f'Nothing but training took more than {SMALL:.0%} of the time.'
  facts = next((start.facts for start in reversed(found.starts) if start.facts), {})
  counted = len(found.starts)
  compilations = sum(start.compilations for start in found.starts)
  data = 'raise input_processes (is {})'.format(facts.get('input_processes'))
  if facts.get('dataset') == 'imagenet2012' and not facts.get('stored_side'):
    data += ', or store smaller images once (data.prepare --shorter_side=256, stored_side=256)'
  sentence = {
    account.DATA: f'{data}.',
    account.COMPILATION: (
      f'{compilations} in {counted} {"start" if counted == 1 else "starts"}. The programs are kept: the next start on '
      'this machine finds them, and one on another where JAX_COMPILATION_CACHE_DIR is a folder of both. Each of '
      'train_image_sizes is one more.'
    ),
    account.EVALUATION: f'raise eval_every_steps (is {_every(facts, "eval_every_steps")}).',
    account.CHECKPOINTS: f'raise checkpoint_every_steps (is {_every(facts, "checkpoint_every_steps")}).',
    account.START: f'{counted} {"start" if counted == 1 else "starts"}. Fewer of them, or a longer run, make it less.',
    LOST: (
      f'{found.lost:,} steps were computed again. Lower checkpoint_every_steps '
      f'(is {_every(facts, "checkpoint_every_steps")}), or end the run by SIGTERM, which saves first.'
    ),
  }[row]
  return f'The most besides training, {share:.0%}, is {NAMES.get(row, row)}: {sentence}'


def _every(facts: dict[str, Any], name: str) -> str:
  value = facts.get(name, '?')
  return f'{value}, once an epoch' if value == 0 else str(value)


def _share(found: Times, row: str) -> float:
  return found.seconds(row) / max(found.total, 1e-9)


def duration(seconds: float) -> str:
  """'12.3 s', and from a minute on '0:01:02'."""
  return f'{seconds:.1f} s' if seconds < 60 else str(datetime.timedelta(seconds=round(seconds)))


def as_json(found: Times) -> dict[str, Any]:
  """The same as numbers."""
  return {
    'seconds': {row: found.seconds(row) for row in ROWS},
    'all_starts': found.total,
    'between_starts': found.between,
    'lost_steps': found.lost,
    'unaccounted_steps': found.unaccounted,
    'step_seconds': {
      side: {'steps': spread.count, 'mean': spread.mean, 'deviation': spread.deviation}
      for side, spread in found.steps().items()
    },
    'starts': [
      {name: value for name, value in dataclasses.asdict(start).items() if name != 'steps'} | {'lost': start.lost}
      for start in found.starts
    ],
    'advice': advice(found),
  }
