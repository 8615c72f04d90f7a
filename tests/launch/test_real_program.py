"""The real program under the launchers: a slice that is a folder, and a Slurm cluster of two nodes on this machine."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SHORT = (
  '--config.epochs=0.62',
  '--config.warmup_epochs=0',
  '--config.batch_size=64',
  '--config.checkpoint_every_steps=5',
  '--config.log_every_steps=1',
  '--config.steps_per_call=1',
  '--config.validation=0',
)
CPU = f'JAX_PLATFORMS=cpu CMPE_JAX_PLATFORM=cpu XLA_FLAGS= PYTHONPATH={ROOT}'
pytestmark = pytest.mark.slow


def losses(workdir):
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return {line['step']: line['train/loss'] for line in lines if 'train/loss' in line}


def free_port():
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


def wait_for(condition, seconds):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.1)


def test_tpu_train_with_a_preemption_equals_one_without(cloud):
  run = ('--name=run', '--zone=us-central1-a', '--type=v4-16', '--config=configs/digits.py')
  cloud.add(
    'worker/program',
    '#!/usr/bin/env bash\n'
    f'words=("${{@/gs:\\/\\//{cloud.folder}/buckets/}}") number=${{HOSTNAME##*-}}\n'
    f'exec env {CPU} {sys.executable} "${{words[@]}}" --coordinator_address=127.0.0.1:{free_port()} --num_processes=2 '
    '--process_id=$number\n',
  )

  def train(workdir):
    with cloud.start('tpu_vm.sh', 'train', *run, f'--workdir=gs://b/{workdir}', '--', *SHORT) as process:
      output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output, losses(cloud.folder / 'buckets' / 'b' / workdir)

  _, want = train('whole')
  cloud.plan('follow', 'preempt')  # at the first new checkpoint
  output, got = train('parts')
  assert 'the slice was lost (SUSPENDED)' in output
  assert 'going on from the checkpoint at step 5' in output
  assert list(want) == list(range(1, 15))
  assert got == want


FREEZER = pathlib.Path('/sys/fs/cgroup/freezer/tasks')


@pytest.fixture
def cluster(request, tmp_path):
  """Two nodes of Slurm, as environment; ends with the test. Its parameter, if any, is how Slurm tracks processes."""
  if os.geteuid() or not shutil.which('slurmctld', path='/usr/sbin') or not shutil.which('munge'):
    pytest.skip('needs root, and apt-get install slurm-wlm munge')
  setup = pathlib.Path(__file__).parent / 'slurm' / 'setup.sh'
  tracking = getattr(request, 'param', 'linuxproc')
  if tracking == 'cgroup' and not FREEZER.exists():
    pytest.skip('needs control groups of version 1')
  subprocess.run([setup, 'start', tmp_path / 'slurm'], env=os.environ | {'PROCTRACK': tracking}, check=True, timeout=60)
  yield {'SLURM_CONF': str(tmp_path / 'slurm' / 'slurm.conf'), 'GRACE_SECONDS': '2'}
  subprocess.run(
    ['scancel', '--user=root'], env=os.environ | {'SLURM_CONF': f'{tmp_path}/slurm/slurm.conf'}, timeout=60
  )
  subprocess.run([setup, 'stop', tmp_path / 'slurm'], check=True, timeout=60)


class Job:
  """A job of two tasks, one on each node, in a checkout of its own; `body` is its program."""

  def __init__(self, cluster, checkout, body):
    self.environment, self.checkout = os.environ | cluster, checkout
    python = checkout / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/usr/bin/env bash\n{body}\n')
    python.chmod(0o755)

  def call(self, *words):
    return subprocess.run(words, env=self.environment, cwd=self.checkout, capture_output=True, text=True, timeout=300)

  def submit(self, *flags):
    return self.call(
      'launch/slurm.sh', '--config=configs/digits.py', '--nodes=2', '--gpus-per-node=0', '--cpus-per-gpu=1', *flags
    )

  def facts(self):
    """The state, restarts and exit code of the newest job. Slurm lets a requeued one wait for two minutes."""
    words = self.call('scontrol', 'show', 'job', '--oneliner').stdout.splitlines()[-1].split()
    facts = dict(word.partition('=')[::2] for word in words)
    return facts['JobState'], int(facts['Restarts']), facts['ExitCode']

  def end(self, seconds=240):
    wait_for(lambda: self.facts()[0] in ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL'), seconds)
    return self.facts()


def test_slurm_a_fault_of_one_task_wins_and_the_others_do_not_wait(cluster, checkout):
  # Task 1 has a wrong input; task 0 waits for it as at the start, and ends as one that was interrupted.
  job = Job(
    cluster,
    checkout,
    'if ((SLURM_PROCID)); then exit 2; fi; trap "exit 75" TERM; for i in {1..2000}; do sleep 0.1; done',
  )
  began = time.monotonic()
  assert job.submit('--workdir=w').returncode == 0
  assert job.end() == ('FAILED', 0, '2:0')
  assert time.monotonic() - began < 60
  assert 'task 0: Exited with exit code 75' in (checkout / 'cmpe_jax.log').read_text()
  assert 'task 1: Exited with exit code 202' in (checkout / 'cmpe_jax.log').read_text()


def test_slurm_check_waits_and_ends_with_its_code(cluster, checkout):
  job = Job(cluster, checkout, 'echo "$SLURM_PROCID $2 $CMPE_JAX_PLATFORM"; exit $((SLURM_PROCID ? 0 : $CODE))')
  for code in (0, 2, 75):
    job.environment['CODE'] = str(code)
    done = job.submit('--workdir=w', '--check')
    assert done.returncode == code
    assert '1 cmpe_jax.tools.check cpu' in done.stdout
  assert job.facts()[1] == 0


@pytest.mark.parametrize('cluster', ['linuxproc', 'cgroup'], indirect=True)  # every process, or one of each task
def test_slurm_the_warning_reaches_each_program_once_and_queues_the_job_again(cluster, checkout):
  job = Job(
    cluster,
    checkout,
    '((${SLURM_RESTART_COUNT:-0} == 0)) || exit 0; trap "((++told))" TERM; touch ready.$SLURM_PROCID; '
    'until ((told)); do sleep 0.1; done; sleep 1; echo "task $SLURM_PROCID was told $told times"; exit 75',
  )
  job.submit('--workdir=w')
  wait_for(lambda: len(list(checkout.glob('ready.*'))) == 2, 30)
  job.call('scancel', '--signal=TERM', '--name=cmpe_jax')  # what --signal=TERM@120 does
  assert job.end() == ('COMPLETED', 1, '0:0')
  log = (checkout / 'cmpe_jax.log').read_text()
  assert 'task 0 was told 1 times' in log
  assert 'task 1 was told 1 times' in log


def test_slurm_a_killed_task_is_queued_again_and_ends_as_without(cluster, checkout):
  job = Job(cluster, checkout, f'echo $$ > pid.$SLURM_PROCID; exec env {CPU} {sys.executable} "$@"')
  job.submit(f'--workdir={checkout}/whole', '--', *SHORT)
  assert job.end(480) == ('COMPLETED', 0, '0:0'), (checkout / 'cmpe_jax.log').read_text()
  want = losses(checkout / 'whole')
  assert list(want) == list(range(1, 15))

  for path in checkout.glob('pid.*'):
    path.unlink()
  job.submit(f'--workdir={checkout}/parts', '--', *SHORT)
  wait_for(lambda: (checkout / 'parts' / 'checkpoints' / '5').exists(), 200)
  os.kill(int((checkout / 'pid.1').read_text()), signal.SIGKILL)
  assert job.end(480) == ('COMPLETED', 1, '0:0'), (checkout / 'cmpe_jax.log').read_text()
  assert losses(checkout / 'parts') == want
