"""`tpu_vm.sh train` through preemptions, lost connections and failures, on a cloud in a folder (`cloud.py`)."""

import hashlib

import pytest

SLICE = ('--name=run', '--zone=us-central1-a')
PROGRAM = ('--config=configs/digits.py', '--workdir=gs://b/run')
TRAIN = ('train', *SLICE, '--type=v4-16', '--spot', *PROGRAM)  # two workers
DELETED = 'tpu_vm.sh: run is deleted; what still costs money: the storage of gs://b/run.'
STARTED = ' UTC: .venv/bin/python -m cmpe_jax.main '  # the line that worker.sh begins with in a log
KEPT = 'this ends the first: launch/tpu_vm.sh delete --name=run --zone=us-central1-a'


def undisturbed(last=6):
  """The checkpoint that a run without an interruption ends with."""
  value = 'start'
  for step in range(1, last + 1):
    value = hashlib.sha1(f'{value} {step}'.encode()).hexdigest()
  return value


def last_line(done):
  return done.stdout.splitlines()[-1]


def test_preemptions_a_lost_connection_and_a_silent_gcloud_end_as_a_run_without(cloud):
  cloud.plan('create', 'wait 2')
  cloud.plan('follow', 'preempt', 'drop', 'preempt')
  cloud.plan('describe', '', '', '', '', '', '', '', 'network', 'network')
  done = cloud.run('tpu_vm.sh', *TRAIN, STEPS='48')
  assert done.returncode == 0, done.stderr
  assert cloud.checkpoints()[48] == undisturbed(48)
  assert cloud.requests() == {}
  assert last_line(done) == DELETED
  assert cloud.calls('queued-resources create') == 3
  assert cloud.calls('worker.sh start') == 3  # not after the lost connection
  assert done.stdout.count('the slice was lost (SUSPENDED)') == 2
  assert done.stdout.count('the connection broke, the program goes on') == 1
  assert done.stderr.count('gcloud does not say how run stands') == 2
  ended = [log for log in cloud.logs().values() if log.endswith('step 48\n--- ended with 0\n')]
  assert len(ended) == 2  # of the last machines; those of the lost ones are as new as their last copy
  assert all('goes on from step' in log for log in ended)


def test_the_same_command_twice_the_second_follows(cloud, wait_for):
  first = cloud.start('tpu_vm.sh', *TRAIN, '--keep', STEPS='48')
  wait_for(lambda: len(cloud.checkpoints()) > 1)
  second = cloud.run('tpu_vm.sh', *TRAIN, '--keep')
  output, _ = first.communicate(timeout=30)
  assert (first.returncode, second.returncode) == (0, 0)
  assert cloud.checkpoints()[48] == undisturbed(48)
  assert cloud.calls('worker.sh start') == cloud.calls('queued-resources create') == cloud.calls('tpu-vm scp') == 1
  assert '[worker 1] step 48' in output
  assert '[worker 1] step 48' in second.stdout
  assert last_line(second).endswith(KEPT)


def test_two_at_the_same_moment_start_one_program(cloud):
  both = [cloud.start('tpu_vm.sh', *TRAIN, '--keep', STEPS='48') for _ in range(2)]
  outputs = [process.communicate(timeout=50)[0] for process in both]
  assert [process.returncode for process in both] == [0, 0], outputs
  assert cloud.requests() == {'run': 'ACTIVE'}
  assert cloud.checkpoints()[48] == undisturbed(48)
  assert [log.count(STARTED) for log in cloud.logs().values()] == [1, 1]


def test_a_killed_launcher_is_taken_up_by_the_same_command(cloud, wait_for):
  first = cloud.start('tpu_vm.sh', *TRAIN, STEPS='48')
  wait_for(lambda: len(cloud.checkpoints()) > 1)
  first.kill()
  second = cloud.run('tpu_vm.sh', *TRAIN, STEPS='48')
  assert second.returncode == 0, second.stderr
  assert cloud.calls('worker.sh start') == 1
  assert (cloud.checkpoints()[48], last_line(second)) == (undisturbed(48), DELETED)


def test_workers_that_do_not_answer_keep_their_program(cloud, wait_for):
  cloud.plan('ssh', '', '', '', 'broken', 'broken')  # the questions after a lost connection
  cloud.plan('follow', 'drop')
  done = cloud.run('tpu_vm.sh', *TRAIN, '--keep', STEPS='12')
  assert done.returncode == 0, done.stderr
  assert done.stderr.count('run is ACTIVE, but its workers do not answer: ERROR: (gcloud') == 2
  train = cloud.start('tpu_vm.sh', *TRAIN, '--keep', STEPS='72')
  wait_for(lambda: len(cloud.checkpoints()) > 13)
  scripts = [cloud.folder / 'nodes' / 'run' / f'w{number}' / 'cmpe_jax/launch/worker.sh' for number in range(2)]
  installed = [script.stat().st_ino for script in scripts]
  assert 'the program runs: what is installed stays' in cloud.run('tpu_vm.sh', 'install', *SLICE).stdout
  assert installed == [script.stat().st_ino for script in scripts]  # not unpacked anew beneath the program
  cloud.plan('ssh', 'broken')  # the first question: it looks as if nothing ran
  second = cloud.run('tpu_vm.sh', *TRAIN, '--keep', STEPS='72')
  assert (train.wait(timeout=30), second.returncode) == (0, 0)
  assert second.stderr.count('run is ACTIVE, but its workers do not answer') == 1
  assert cloud.calls('worker.sh start') == 2
  assert cloud.checkpoints()[72] == undisturbed(72)
  assert [log.count(STARTED) for log in cloud.logs().values()] == [2, 2]


def test_a_slice_whose_workers_do_not_answer_stays(cloud, wait_for):
  first = cloud.start('tpu_vm.sh', *TRAIN, STEPS='60')
  wait_for(lambda: len(cloud.checkpoints()) > 1)
  first.kill()
  cloud.plan('ssh', *['broken'] * 20)  # a machine without the key
  second = cloud.run('tpu_vm.sh', *TRAIN, STEPS='60')
  assert second.returncode == 75
  assert 'a program may run on run, whose workers do not answer, so it is neither touched nor deleted' in second.stderr
  assert (cloud.requests(), last_line(second).endswith(KEPT)) == ({'run': 'ACTIVE'}, True)
  assert cloud.run('tpu_vm.sh', *TRAIN, STEPS='60').returncode == 0
  assert cloud.checkpoints()[60] == undisturbed(60)


def test_a_silent_gcloud_is_not_an_absent_slice(cloud):
  cloud.plan('describe', *['network'] * 4)
  done = cloud.run('tpu_vm.sh', *TRAIN)
  assert done.returncode == 2
  assert cloud.calls('queued-resources create') == cloud.calls('queued-resources delete') == 0
  assert 'nothing is requested' in done.stderr
  assert 'gcloud does not say whether run still costs money' in last_line(done)


@pytest.mark.parametrize(
  ('kind', 'event', 'why'),
  [
    ('scp', 'broken', 'the installation failed'),
    ('uv', 'broken', 'the installation failed'),
    ('follow', 'preempt at once', 'the slice was lost (SUSPENDED)'),
    ('program', 'crash', 'the program ended with 134 134'),
  ],
)
def test_three_failures_without_a_newer_checkpoint_end_it(kind, event, why, cloud):
  for name in [f'program.w{number}' for number in range(2)] if kind == 'program' else [kind]:
    cloud.plan(name, *[event] * 30)
  done = cloud.run('tpu_vm.sh', *TRAIN, STEP_SECONDS='30')
  assert done.returncode == 1
  assert f'three failures without a newer checkpoint in gs://b/run; the last: {why}.' in done.stderr
  assert (cloud.requests(), last_line(done)) == ({}, DELETED)
  assert done.stdout.count('attempt ') == 2


def test_a_disk_that_cannot_be_mounted_ends_it(cloud):
  (cloud.folder / 'disks' / 'd').write_text('hyperdisk-ml,READ_ONLY_MANY')
  cloud.add(
    'worker/sudo', '#!/bin/sh\n[ "$1" = mkdir ] || { echo "mount: wrong fs type, bad superblock" >&2; exit 32; }\n'
  )
  disk = ('--data-disk=projects/p/zones/z/disks/d', '--data-device=/dev/sdb')
  done = cloud.run('tpu_vm.sh', *TRAIN, *disk)
  assert done.returncode == 1
  assert done.stderr.count('mount: wrong fs type') == 6  # three times on two workers
  assert 'the last: the installation failed.' in done.stderr
  assert cloud.requests() == {}
  assert last_line(done) == DELETED.replace('run.', 'run and projects/p/zones/z/disks/d.')


def test_failures_with_newer_checkpoints_between_go_on(cloud):
  for number in range(2):
    cloud.plan(f'program.w{number}', *['exit 75'] * 4)
  cloud.plan('ls', '', '', 'network', 'network')  # a bucket that does not say ends nothing
  done = cloud.run('tpu_vm.sh', *TRAIN)
  assert done.returncode == 0, done.stderr
  assert cloud.calls('worker.sh start') == 5
  assert cloud.checkpoints()[6] == undisturbed()


@pytest.mark.parametrize(('event', 'code'), [('exit 2', 2), ('exit 1', 1)])
def test_a_wrong_input_on_one_worker_ends_it(event, code, cloud):
  for number in range(2):
    cloud.plan(f'program.w{number}', event if number == 1 else 'exit 75')
  done = cloud.run('tpu_vm.sh', *TRAIN)
  assert done.returncode == code
  assert 'the same command would fail again' in done.stderr
  assert cloud.calls('worker.sh start') == 1
  assert (cloud.requests(), last_line(done)) == ({}, DELETED)


def test_a_refused_request_ends_it_and_a_lost_one_does_not(cloud):
  cloud.plan('create', 'network', 'refused')
  done = cloud.run('tpu_vm.sh', *TRAIN)
  assert done.returncode == 2
  assert cloud.calls('queued-resources create') == 2
  assert 'PERMISSION_DENIED' in done.stderr
  assert last_line(done) == DELETED


def test_stop_and_delete_from_another_terminal_end_it(cloud, wait_for):
  train = cloud.start('tpu_vm.sh', *TRAIN, STEPS='100')
  wait_for(lambda: len(cloud.checkpoints()) > 1)
  assert cloud.run('tpu_vm.sh', 'stop', *SLICE).returncode == 0
  output, _ = train.communicate(timeout=30)
  assert train.returncode == 75
  assert 'it was stopped; the same command goes on.' in output
  assert output.splitlines()[-1].endswith(KEPT)

  train = cloud.start('tpu_vm.sh', *TRAIN, STEPS='100')
  before = len(cloud.checkpoints())
  wait_for(lambda: len(cloud.checkpoints()) > before)
  assert cloud.run('tpu_vm.sh', 'delete', *SLICE).returncode == 0
  output, _ = train.communicate(timeout=30)
  assert train.returncode == 75
  assert 'run was deleted by somebody' in output
  assert output.splitlines()[-1] == DELETED


def test_another_command_on_the_slice_is_left_alone(cloud, wait_for):
  train = cloud.start('tpu_vm.sh', *TRAIN, STEPS='48')
  wait_for(lambda: len(cloud.checkpoints()) > 1)
  other = cloud.run('tpu_vm.sh', *TRAIN, '--', '--config.epochs=1')
  assert other.returncode == 2
  assert 'another command runs on run: stop it first (launch/tpu_vm.sh stop --name=run' in other.stderr
  train.communicate(timeout=30)
  assert cloud.checkpoints()[48] == undisturbed(48)


def test_a_slice_that_cannot_be_deleted_is_said_to_cost_money(cloud):
  cloud.plan('delete', 'network', 'network', 'network')
  done = cloud.run('tpu_vm.sh', *TRAIN)
  assert done.returncode == 0
  assert last_line(done).startswith('tpu_vm.sh: what still costs money: run (ACTIVE), and the storage of gs://b/run;')
  assert cloud.calls('queued-resources delete') == 3


def test_a_users_day_with_v5e(cloud, wait_for):
  kind = '--type=v5litepod-16'
  refused = cloud.run('tpu_vm.sh', 'create', *SLICE, '--type=v5e-16')
  assert refused.returncode == 2
  assert '--type=v5litepod-16' in refused.stderr
  assert not (cloud.folder / 'calls').exists()

  cloud.plan('create', 'wait 2')
  created = cloud.run('tpu_vm.sh', 'create', *SLICE, kind)
  assert created.returncode == 0, created.stderr
  assert 'waiting for run (WAITING_FOR_RESOURCES)' in created.stdout
  checked = cloud.run('tpu_vm.sh', 'train', *SLICE, kind, *PROGRAM, '--check', '--keep')
  assert checked.returncode == 0, checked.stderr
  assert '[worker 2] checked' in checked.stdout
  wrong = cloud.run('tpu_vm.sh', 'train', *SLICE, kind, *PROGRAM, '--check', '--keep', '--', '--ends_with=2')
  assert wrong.returncode == 2
  assert cloud.requests() == {'run': 'ACTIVE'}

  train = cloud.start('tpu_vm.sh', 'train', *SLICE, kind, *PROGRAM, STEPS='100')
  wait_for(lambda: len(cloud.checkpoints()) > 1)
  follow = cloud.start('tpu_vm.sh', 'follow', *SLICE)
  wait_for(lambda: '[worker 1] step' in follow.stdout.readline())
  assert cloud.run('tpu_vm.sh', 'stop', *SLICE).returncode == 0
  assert (follow.wait(timeout=30), train.wait(timeout=30)) == (0, 75)
  assert cloud.run('tpu_vm.sh', 'delete', *SLICE).returncode == 0
  assert cloud.run('tpu_vm.sh', 'delete', *SLICE).returncode == 0  # there is none: nothing to do
  assert cloud.requests() == {}
  assert cloud.calls('queued-resources create') == 1
