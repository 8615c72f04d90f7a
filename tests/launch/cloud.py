"""A cloud in a folder, as a stand-in for `gcloud`: it runs what it is told, and fails the way the real one does.

$CLOUD holds `requests` (one JSON file a queued resource), `nodes/NAME/wN` (a home folder a worker, where the commands
of `ssh` run), `buckets` (gs://B/X is buckets/B/X), `disks` and `plan`: each line of plan/KIND is what befalls one call
of that kind, from the top; a call without a line meets no misfortune. `calls` is what was called.

  plan/describe  network              plan/create   wait N | network | refused      plan/scp   broken
  plan/ssh       broken               plan/follow   drop | preempt | preempt at once plan/ls    network
  plan/delete    network
"""

import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

CLOUD = pathlib.Path(os.environ['CLOUD'])
NETWORK = (
  'There was a problem refreshing your current auth tokens: connection failed: Temporary failure in name resolution'
)
COMMANDS = {
  'compute tpus queued-resources create',
  'compute tpus queued-resources describe',
  'compute tpus queued-resources delete',
  'compute tpus tpu-vm ssh',
  'compute tpus tpu-vm scp',
  'compute disks describe',
  'storage cp',
  'storage ls',
}


def fail(command, message, code=1):
  print(f'ERROR: (gcloud.{command.replace(" ", ".")}) {message}', file=sys.stderr)
  sys.exit(code)


def planned(kind):
  """Takes the next line of a plan; '' if there is none."""
  path = CLOUD / 'plan' / kind
  if not path.exists():
    return ''
  with path.open('r+') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    first, *rest = file.read().splitlines() or ['']
    file.seek(0)
    file.truncate()
    file.write(''.join(f'{line}\n' for line in rest))
  return first


def local(url):
  return CLOUD / 'buckets' / url.removeprefix('gs://')


class Request:
  """A queued resource and its node, of the same name."""

  def __init__(self, name, flags):
    self.name, self.place = name, f'projects/{flags.get("project", "p")}/locations/{flags.get("zone")}'
    self.file, self.node = CLOUD / 'requests' / name, CLOUD / 'nodes' / name

  def read(self, command):
    if not self.file.exists():
      fail(command, f"NOT_FOUND: Resource '{self.place}/queuedResources/{self.name}' was not found.")
    return json.loads(self.file.read_text())

  def write(self, **facts):
    self.file.with_suffix('.new').write_text(json.dumps(facts))
    self.file.with_suffix('.new').rename(self.file)

  def workers(self):
    return sorted(self.node.glob('w*'), key=lambda home: int(home.name[1:]))

  def grant(self, facts):
    cores = int(facts['type'].split('-')[1])
    each = 4 if facts['type'].startswith(('v5lite', 'v6e')) else 8
    for number in range(cores // each if cores > 8 else 1):
      (self.node / f'w{number}').mkdir(parents=True, exist_ok=True)
    self.write(**facts | {'state': 'ACTIVE'})

  def vanish(self):
    """The machines are gone, with all that ran on them: what has a worker's home folder in its environment."""
    gone = self.node.with_name(f'.{self.name}.{os.getpid()}')  # nobody reaches it while it dies
    if self.node.exists():
      self.node.rename(gone)
    for entry in pathlib.Path('/proc').glob('[0-9]*'):
      try:
        if f'HOME={self.node}/'.encode() in (entry / 'environ').read_bytes():
          os.kill(int(entry.name), signal.SIGKILL)
      except (OSError, PermissionError):
        continue
    while gone.exists():  # what was killed may have been writing
      shutil.rmtree(gone, ignore_errors=True)


def create(command, request, flags):
  event = planned('create')
  if event == 'network':
    fail(command, f'UNAVAILABLE: {NETWORK}')
  if event == 'refused':
    fail(command, 'PERMISSION_DENIED: Permission denied on resource project p.')
  if request.file.exists():
    fail(command, f"ALREADY_EXISTS: Resource '{request.place}/queuedResources/{request.name}' already exists.")
  kind = flags.get('accelerator-type', '')
  if not re.fullmatch(r'(v2|v3|v4|v5litepod|v5p|v6e)-\d+', kind):
    fail(command, f'INVALID_ARGUMENT: Accelerator type {kind!r} was not found.')
  if not flags.get('runtime-version') or not flags.get('node-id'):
    fail(command, 'argument --runtime-version --node-id: Must be specified.', 2)
  waits = int(event.split()[1]) if event else 0
  request.write(state='WAITING_FOR_RESOURCES' if waits else 'ACCEPTED', type=kind, waits=waits)


def describe(command, request, flags):
  if planned('describe') == 'network':
    fail(command, NETWORK)
  facts = request.read(command)
  if facts['state'] in ('ACCEPTED', 'PROVISIONING', 'WAITING_FOR_RESOURCES'):
    if facts['waits'] > 0:
      request.write(**facts | {'waits': facts['waits'] - 1})
    elif facts['state'] == 'PROVISIONING':
      request.grant(facts)
    else:
      request.write(**facts | {'state': 'PROVISIONING'})
  print(facts['state'])


def delete(command, request, flags):
  if planned('delete') == 'network':
    fail(command, NETWORK)
  if 'quiet' not in flags:
    fail(command, 'This prompt could not be answered because you are not in an interactive session.')
  facts = request.read(command)
  if facts['state'] == 'ACTIVE' and 'force' not in flags:
    fail(command, 'FAILED_PRECONDITION: a queued resource with nodes is deleted with --force only.')
  request.vanish()
  request.file.unlink(missing_ok=True)


def reached(command, request, flags):
  """The workers; gcloud looks for the node, not for the request."""
  if not request.node.exists():
    fail(command, f"NOT_FOUND: Resource '{request.place}/nodes/{request.name}' was not found.")
  if flags.get('worker') != 'all':
    fail(command, f'this stand-in knows --worker=all only, not {flags.get("worker")!r}', 2)
  return request.workers()


def scp(command, request, flags, source):
  homes = reached(command, request, flags)
  if planned('scp') == 'broken':
    fail(command, '[/usr/bin/scp] exited with return code [255].', 255)
  for home in homes:
    shutil.copy(source, home / flags['target'])


def checkpoints():
  return len(list((CLOUD / 'buckets').glob('**/checkpoints/*[0-9]')))


def ssh(command, request, flags):
  homes = reached(command, request, flags)
  before = checkpoints()
  event = planned('follow' if 'worker.sh follow' in flags['command'] else 'ssh')
  lost = '[/usr/bin/ssh] exited with return code [255].'
  if event == 'broken':
    fail(command, lost, 255)
  sessions = [
    subprocess.Popen(['bash', '-c', flags['command']], cwd=home, env=worker(home), start_new_session=True)
    for home in homes
  ]
  while None in [session.poll() for session in sessions]:
    if event and (event.endswith('at once') or checkpoints() > before):
      for session in sessions:  # the connection's own processes; what they started elsewhere goes on
        os.killpg(session.pid, signal.SIGKILL)
      if event.startswith('preempt'):
        request.write(**request.read(command) | {'state': 'SUSPENDED'})
        request.vanish()
      fail(command, lost, 255)
    time.sleep(0.02)
  sys.exit(max(session.returncode if session.returncode >= 0 else 255 for session in sessions))


def worker(home):
  """The environment of a worker's shell."""
  own = {
    'HOME': str(home),
    'HOSTNAME': f't1v-n-0-w-{home.name[1:]}',
    'PATH': f'{CLOUD}/worker:{CLOUD}/bin:/usr/bin:/bin',
  }
  return own | {
    name: value
    for name, value in os.environ.items()
    if name in ('CLOUD', 'CMPE_JAX_LOG_SECONDS', 'STEPS', 'STEP_SECONDS')
  }


def storage(command, words):
  if command == 'storage ls':
    if planned('ls') == 'network':
      fail(command, NETWORK)
    found = sorted(local(words[0]).glob('*'))
    if not found:
      fail(command, 'One or more URLs matched no objects.')
    print('\n'.join(f'{words[0]}{path.name}{"/" * path.is_dir()}' for path in found))
    return
  source, target = words
  if not pathlib.Path(source).exists():
    fail(command, f'The following URLs matched no objects or files:\n-{source}')
  local(target).parent.mkdir(parents=True, exist_ok=True)
  shutil.copy(source, local(target))


def main():
  with (CLOUD / 'calls').open('a') as calls:
    calls.write(' '.join(['gcloud', *sys.argv[1:]]).replace('\n', ' ') + '\n')
  words = [word for word in sys.argv[1:] if not word.startswith('--')]
  flags = dict(word[2:].partition('=')[::2] for word in sys.argv[1:] if word.startswith('--'))
  command = next((' '.join(words[:n]) for n in (4, 3, 2) if ' '.join(words[:n]) in COMMANDS), '')
  if not command:
    fail('', f'Invalid choice: {" ".join(words)!r}.', 2)
  rest = words[len(command.split()) :]
  if command.startswith('storage'):
    storage(command, rest)
  elif command == 'compute disks describe':
    path = CLOUD / 'disks' / rest[0]
    print(path.read_text()) if path.exists() else fail(command, f"The resource 'disks/{rest[0]}' was not found")
  elif command == 'compute tpus tpu-vm scp':
    name, _, flags['target'] = rest[1].partition(':')
    scp(command, Request(name, flags), flags, rest[0])
  else:
    {'create': create, 'describe': describe, 'delete': delete, 'ssh': ssh}[command.split()[-1]](
      command, Request(rest[0], flags), flags
    )


if __name__ == '__main__':
  main()
