"""A cluster with JobSet in a folder, as a stand-in for `kubectl`; what goes wrong, goes wrong as with the real one.

$CLUSTER holds `jobset` (the manifest), `lives` (one line a life of the JobSet that is still to come: the exit codes of
its pods) and `now` (what has become of it). A life lasts as long as its logs are followed; it writes twelve lines a
pod. A line of `plan` is what befalls one call of `logs`: `creating` (pods that have no logs yet) or `drop` (a lost
connection).
"""

import json
import os
import pathlib
import sys
import time

import yaml
from schema import faults

CLUSTER = pathlib.Path(os.environ['CLUSTER'])
TIME = '%Y-%m-%dT%H:%M:%SZ'


def fail(message):
  print(message, file=sys.stderr)
  sys.exit(1)


def take(name):
  lines = (CLUSTER / name).read_text().splitlines() if (CLUSTER / name).exists() else []
  (CLUSTER / name).write_text(''.join(f'{line}\n' for line in lines[1:]))
  return lines[0] if lines else ''


def read(name):
  if not (CLUSTER / 'jobset').exists() or json.loads((CLUSTER / 'jobset').read_text())['metadata']['name'] != name:
    fail(f'Error from server (NotFound): jobsets.jobset.x-k8s.io "{name}" not found')
  return json.loads((CLUSTER / 'jobset').read_text()), json.loads((CLUSTER / 'now').read_text())


def write(**now):
  (CLUSTER / 'now').write_text(json.dumps(now))


def apply():
  found = yaml.safe_load(sys.stdin)
  name = found['metadata']['name']
  wrong = faults(found)
  if wrong:
    fail(f'The JobSet "{name}" is invalid: {wrong[0]}')
  if (CLUSTER / 'jobset').exists():
    print(f'jobset.jobset.x-k8s.io/{name} unchanged')
    return
  (CLUSTER / 'jobset').write_text(json.dumps(found))
  write(restarts=0, conditions='', logs=[], codes=[])
  print(f'jobset.jobset.x-k8s.io/{name} created')


def after(jobset, now, codes):
  """What JobSet makes of a life's end: `FailJobSet` for the codes of the pod failure policy, else a restart."""
  policy = jobset['spec']['replicatedJobs'][0]['template']['spec']['podFailurePolicy']['rules'][0]['onExitCodes']
  now['codes'] = codes
  if not any(codes):
    now['conditions'] = 'Completed'
  elif set(codes) & set(policy['values']) or now['restarts'] >= jobset['spec']['failurePolicy']['maxRestarts']:
    now['conditions'] = 'Failed'
  else:
    now |= {'restarts': now['restarts'] + 1, 'logs': []}
  return now


def logs(flags):
  jobset, now = read(flags['selector'].split('=')[1])
  event = take('plan')
  if event == 'creating':
    fail(
      'Error from server (BadRequest): container "main" in pod "run-slice-0-0" is waiting to start: ContainerCreating'
    )
  lines = [[stamp, line] for stamp, line in now['logs']]
  new = [f'life {now["restarts"]} line {i}' for i in range(len(lines), 6 if event == 'drop' else 12)]
  lines += [[time.strftime(TIME, time.gmtime()), line] for line in new if not now['conditions']]
  last = int(flags.get('tail', '10'))  # with a selector; -1: all
  for stamp, line in lines if last < 0 else lines[-last:]:
    if stamp >= flags.get('since-time', ''):
      for pod in range(2):
        print(f'[pod/{jobset["metadata"]["name"]}-slice-0-{pod}/main] {line}', flush=True)
  if event == 'drop':
    write(**now | {'logs': lines})
    fail('error: unexpected EOF')
  if not now['conditions']:
    write(**after(jobset, now | {'logs': lines}, [int(code) for code in take('lives').split()]))


def main():
  with (CLUSTER / 'calls').open('a') as calls:
    calls.write(' '.join(sys.argv[1:]).replace('\n', ' ') + '\n')
  words = [word for word in sys.argv[1:] if not word.startswith('--')]
  flags = dict(word[2:].partition('=')[::2] for word in sys.argv[1:] if word.startswith('--'))
  if words == ['apply'] and flags == {'filename': '-'}:
    apply()
  elif words == ['logs'] and 'follow' in flags:
    logs(flags)
  elif words[:2] == ['get', 'jobset']:
    print(read(words[2])[1]['conditions'], end='')
  elif words == ['get', 'pods']:
    print('\n'.join(map(str, read(flags['selector'].split('=')[1])[1]['codes'])))
  elif words[:2] == ['delete', 'jobset']:
    read(words[2])
    (CLUSTER / 'jobset').unlink()
    print(f'jobset.jobset.x-k8s.io "{words[2]}" deleted')
  else:
    fail(f'error: unknown command {" ".join(words)!r}')


if __name__ == '__main__':
  main()
