"""What runs on the workers of a slice."""

import os
import signal
import time


def test_worker_starts_shows_and_keeps_the_exit_code(checkout, launch):
  assert launch('worker.sh', 'code', root=checkout).stdout == 'none\n'
  program = ('bash', '-c', 'echo "$0" $CMPE_JAX_PLATFORM; sleep 1; echo two; exit 75', 'one  word')
  launch('worker.sh', 'start', *program, root=checkout)
  assert launch('worker.sh', 'start', 'true', root=checkout).returncode == 2
  assert launch('worker.sh', 'code', *program, root=checkout).stdout == 'running\n'
  assert launch('worker.sh', 'code', 'true', root=checkout).stdout == 'other\n'
  shown = launch('worker.sh', 'follow', root=checkout, HOSTNAME='t1v-n-abc-w-3').stdout.splitlines()
  assert shown[0].startswith('[worker 3] --- 2')
  assert shown[1:] == ['[worker 3] one  word tpu', '[worker 3] two', '[worker 3] --- ended with 75']
  assert launch('worker.sh', 'code', root=checkout).stdout == '75\n'
  launch('worker.sh', 'start', 'echo', 'three', root=checkout)
  shown = launch('worker.sh', 'follow', root=checkout).stdout.splitlines()
  assert [line.split('] ')[1] for line in shown[1:]] == ['three', '--- ended with 0']
  assert '\ntwo\n' in (checkout / 'run.log').read_text()  # the log is added to


def test_worker_stop_lets_the_program_save(checkout, launch):
  program = 'trap "sleep 1; echo saved; exit 75" TERM; touch ready; while true; do sleep 0.1; done'
  launch('worker.sh', 'start', 'bash', '-c', program, root=checkout)
  while not (checkout / 'ready').exists():
    time.sleep(0.05)
  launch('worker.sh', 'stop', root=checkout)
  assert (checkout / 'run.log').read_text().endswith('saved\n--- ended with 75\n')
  assert launch('worker.sh', 'code', root=checkout).stdout == 'stopped\n'


def test_worker_says_none_after_its_machine_was_started_again(checkout, launch):
  launch('worker.sh', 'start', 'sleep', '60', root=checkout)
  os.killpg(int((checkout / 'pid').read_text()), signal.SIGKILL)
  while launch('worker.sh', 'code', root=checkout).stdout == 'running\n':
    time.sleep(0.05)
  (checkout / 'pid').write_text(f'{os.getpid()}\n')  # another process has its number now
  assert launch('worker.sh', 'code', root=checkout).stdout == 'none\n'


def test_worker_says_that_a_program_ended_before_it_began(checkout, launch):
  """Its shell was killed, say; the next start is not kept out."""
  (checkout / 'bin').mkdir()
  (checkout / 'bin' / 'setsid').symlink_to('/bin/true')
  failed = launch('worker.sh', 'start', 'true', root=checkout, path=checkout / 'bin')
  assert (failed.returncode, failed.stderr) == (1, 'the program could not be started\n')
  assert launch('worker.sh', 'code', root=checkout).stdout == 'none\n'
  assert launch('worker.sh', 'start', 'true', root=checkout).returncode == 0


def test_worker_trains_though_its_logs_cannot_be_copied(checkout, launch, stand_in, calls):
  path = stand_in(checkout / 'bin', 'gcloud', 'exit 1')
  launch('worker.sh', 'start', 'sleep', '0.5', root=checkout, path=path, CMPE_JAX_LOGS='gs://b/logs')
  launch('worker.sh', 'follow', root=checkout)
  assert launch('worker.sh', 'code', root=checkout).stdout == '0\n'
  assert len(calls(path)) == 2


LSBLK = """
case "$*" in
  *PKNAME*) echo /dev/sda ;;
  *) printf '%s\\n' '/dev/loop0 loop' '/dev/sda disk' "$DISKS" ;;
esac
"""


def test_worker_mounts_the_disk_that_is_not_the_boot_disk(checkout, launch, stand_in, calls):
  path = stand_in(checkout / 'bin', 'lsblk', LSBLK)
  stand_in(path, 'findmnt', 'echo /dev/sda1')
  stand_in(path, 'mountpoint', 'exit 1')
  stand_in(path, 'sudo', '')

  def mount(*disks, device='auto'):
    lines = '\n'.join(f'{disk} disk' for disk in disks)
    return launch('worker.sh', 'mount', device, '/mnt/data', root=checkout, path=path, DISKS=lines)

  assert mount('/dev/nvme0n2').returncode == 0
  assert calls(path)[-2:] == ['sudo mkdir -p /mnt/data', 'sudo mount -o ro,noload /dev/nvme0n2 /mnt/data']
  done = mount('/dev/sdb', '/dev/sdc')
  assert done.returncode == 2
  assert 'has 2 disks besides the boot disk (/dev/sdb /dev/sdc): name one with --data-device=' in done.stderr
  assert mount().returncode == 2
  assert mount('/dev/sdb', '/dev/sdc', device='/dev/sdc').returncode == 0
  assert calls(path)[-1] == 'sudo mount -o ro,noload /dev/sdc /mnt/data'
