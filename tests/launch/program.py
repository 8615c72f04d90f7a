"""A program in the place of `python -m cmpe_jax.main`: checkpoints in a bucket of `cloud.py`, and the same exit codes.

Each step's value follows from the one before, so that a run with interruptions ends as one without, or differs. Worker
0 writes; the others wait for it, as the processes of a slice do. A line of plan/program.wN is what befalls one start on
worker N: `exit CODE` after the next step, or `crash` before it.
"""

import hashlib
import os
import pathlib
import signal
import sys
import time

CLOUD = pathlib.Path(os.environ['CLOUD'])
NUMBER = os.environ['HOSTNAME'].rsplit('-', 1)[1]
LAST = int(os.environ.get('STEPS', '6'))
told = []


def planned():
  path = CLOUD / 'plan' / f'program.w{NUMBER}'
  first, *rest = (path.read_text().splitlines() if path.exists() else []) or ['']
  path.write_text(''.join(f'{line}\n' for line in rest))
  return first


def awaited():
  """Whether a lost connection or machine is still to come: the program does not end before it, however busy all are."""
  path = CLOUD / 'plan' / 'follow'
  return path.exists() and path.read_text().strip()


def save(folder, step, value):
  if NUMBER == '0':
    (folder / 'new').mkdir(parents=True, exist_ok=True)
    (folder / 'new' / 'value').write_text(value)
    (folder / 'new').rename(folder / str(step))


def train(folder):
  event = planned()
  signal.signal(signal.SIGTERM, lambda *_: told.append(True))
  step = max((int(path.name) for path in folder.glob('[0-9]*')), default=0)
  value = (folder / str(step) / 'value').read_text() if step else 'start'
  print(f'goes on from step {step}' if step else 'starts', flush=True)
  while step < LAST:
    if event == 'crash':
      return 134
    while step == LAST - 1 and awaited() and not told:
      time.sleep(0.02)
    time.sleep(float(os.environ.get('STEP_SECONDS', '0.1')))
    step, value = step + 1, hashlib.sha1(f'{value} {step + 1}'.encode()).hexdigest()
    if not (folder / str(step)).exists():
      save(folder, step, value)
    print(f'step {step}', flush=True)
    if told:
      return 75
    if event:
      return int(event.split()[1])
  return 0


def main():
  flags = dict(word[2:].partition('=')[::2] for word in sys.argv[3:])
  if sys.argv[1] != '-m' or sys.argv[2] not in ('cmpe_jax.main', 'cmpe_jax.tools.check'):
    sys.exit(f'No module named {sys.argv[2]}')
  if os.environ.get('CMPE_JAX_PLATFORM') != 'tpu' or not pathlib.Path(flags['config']).exists():
    sys.exit(2)
  if sys.argv[2] == 'cmpe_jax.tools.check':
    print('checked')
    sys.exit(int(flags.get('ends_with', 0)))
  sys.exit(train(CLOUD / 'buckets' / flags['workdir'].removeprefix('gs://') / 'checkpoints'))


if __name__ == '__main__':
  main()
