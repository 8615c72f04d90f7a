"""The commands of docs/pods.md, as a person would type them, in order, against the stand-ins."""

import pathlib
import re
import shlex

import pytest
from harness import ROOT

PAGE = (ROOT / 'docs' / 'pods.md').read_text()


def typed(title):
  """The launch commands below a heading, as lists of words: script, then its arguments."""
  section = PAGE.split(f'\n## {title}\n')[1].split('\n## ')[0]
  blocks = re.findall(r'```sh\n(.*?)```', section, re.DOTALL)
  lines = [line for block in blocks for line in block.replace('\\\n', ' ').splitlines()]
  return [[pathlib.Path(words[0]).name, *words[1:]] for words in map(shlex.split, lines)]


def text(path):
  try:
    return path.read_text()
  except FileNotFoundError:  # not yet, or its machine is gone
    return ''


def test_a_day_with_16_chips(cloud, wait_for):
  (cloud.folder / 'disks' / 'imagenet').write_text('pd-balanced,')
  cloud.add('worker/findmnt', '#!/bin/sh\necho /dev/sda1\n')
  cloud.add(
    'worker/lsblk',
    '#!/bin/sh\ncase "$*" in *PKNAME*) echo /dev/sda ;; *) echo /dev/sda disk; echo /dev/sdb disk ;; esac\n',
  )
  cloud.add('worker/sudo', '#!/bin/sh\necho "$*" >> "$CLOUD/mounts"\n')
  dry, create, check, train, follow, stop, delete = typed('A day with 16 chips of v5e')
  planned = cloud.run(*dry)
  assert planned.returncode == 0, planned.stderr
  assert not (cloud.folder / 'calls').exists()  # nothing was asked, nothing was paid for
  for command in (create, check):
    done = cloud.run(*command)
    assert done.returncode == 0, done.stderr
  assert cloud.requests() == {'cmpe50': 'ACTIVE'}
  assert (cloud.folder / 'mounts').read_text().count('mount -o ro,noload /dev/sdb /mnt/data') == 4  # workers

  cloud.plan('follow', 'preempt')
  running = cloud.start(*train, STEPS='600')
  log = cloud.folder / 'nodes/cmpe50/w0/cmpe_jax/run.log'
  wait_for(lambda: 'goes on from step' in text(log))  # preempted, and there again
  shown = cloud.start(*follow)
  wait_for(lambda: 'step' in shown.stdout.readline())
  assert cloud.run(*stop).returncode == 0
  assert (shown.wait(timeout=30), running.wait(timeout=30)) == (0, 75)
  assert cloud.requests() == {'cmpe50': 'ACTIVE'}  # it still costs money, as the page says
  done = cloud.run(*train)
  assert done.returncode == 0, done.stderr
  assert cloud.requests() == {}
  assert done.stdout.splitlines()[-1].startswith('tpu_vm.sh: cmpe50 is deleted; what still costs money')
  assert cloud.run(*delete).returncode == 0


@pytest.mark.parametrize('title', ['A machine with GPUs', 'Slurm', 'GKE'])
def test_the_other_commands_are_understood(title, cloud):
  for command in typed(title):
    at = command.index('--') if '--' in command else len(command)
    done = cloud.run(*command[:at], '--dry-run', *command[at:])
    assert done.returncode == 0, done.stderr
    assert done.stdout
