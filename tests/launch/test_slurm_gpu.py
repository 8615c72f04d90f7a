"""Slurm jobs and single machines."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = '--config=configs/imagenet_cmpe50.py'
SLURM = (CONFIG, '--workdir=/shared/run')


def test_slurm_dry_run(launch):
  done = launch(
    'slurm.sh',
    *SLURM,
    '--nodes=2',
    '--gpus-per-node=4',
    '--partition=gpu',
    '--account=me',
    '--time=1-00:00:00',
    '--dry-run',
    '--',
    '--config.batch_size=2048',
  )
  lines = done.stdout.splitlines()
  assert lines[0] == (
    'sbatch --job-name=cmpe_jax --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 --gpu-bind=none --cpus-per-task=8 '
    '--time=1-00:00:00 --signal=TERM@120 --requeue --open-mode=append --output=cmpe_jax.log --partition=gpu '
    "--account=me << 'JOB'"
  )
  assert lines[2:4] == [
    f'cd {ROOT} || exit 2',
    'srun --cpus-per-task=8 --kill-on-bad-exit=0 --wait=300 .venv/bin/python -m cmpe_jax.main '
    f'{CONFIG} --workdir=/shared/run --config.batch_size=2048',
  ]


@pytest.mark.parametrize(
  ('code', 'part', 'again'), [(0, 0, 0), (75, 0, 1), (137, 5, 1), (2, 0, 0), (1, 0, 0), (75, 99, 0)]
)
def test_slurm_job_queues_itself_again_when_interrupted(code, part, again, tmp_path, launch, stand_in, calls):
  stand_in(tmp_path, 'sbatch', 'cat > "$HERE/job"')
  stand_in(tmp_path, 'srun', f'exit {code}')
  stand_in(tmp_path, 'scontrol', '')
  assert launch('slurm.sh', *SLURM, path=tmp_path, HERE=str(tmp_path)).returncode == 0
  env = os.environ | {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '7', 'SLURM_RESTART_COUNT': str(part)}
  done = subprocess.run(['bash', str(tmp_path / 'job')], env=env, timeout=60)
  assert done.returncode == code
  assert calls(tmp_path).count('scontrol requeue 7') == again


def test_gpu_dry_run(launch):
  done = launch('gpu.sh', CONFIG, '--dry-run', '--', '--config.batch_size=512')
  assert done.stdout.splitlines() == [
    'python3 -m venv .venv',
    '.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement=requirements-gpu.txt',
    'touch .venv/installed-gpu',
    f'.venv/bin/python -m cmpe_jax.main {CONFIG} --workdir=runs/imagenet_cmpe50 --config.batch_size=512',
  ]


def with_python(stand_in, checkout, body):
  (checkout / '.venv').mkdir()
  (checkout / '.venv' / 'installed-gpu').touch()
  stand_in(checkout / '.venv' / 'bin', 'python', body)


@pytest.mark.parametrize(
  ('codes', 'code', 'starts'), [('75 137 0', 0, 3), ('2', 2, 1), ('1', 1, 1), ('75 75 75 75', 75, 3)]
)
def test_gpu_starts_again_when_interrupted(codes, code, starts, checkout, launch, stand_in, calls):
  (checkout / 'codes').write_text('\n'.join(codes.split()) + '\n')
  with_python(stand_in, checkout, 'code=$(head -1 codes); sed -i 1d codes; exit $code')
  assert launch('gpu.sh', CONFIG, '--attempts=3', root=checkout).returncode == code
  assert len(calls(checkout / '.venv' / 'bin')) == starts


def test_gpu_hands_sigterm_on_and_ends_with_the_programs_code(checkout, stand_in):
  with_python(
    stand_in, checkout, 'trap "sleep 0.5; touch saved; exit 75" TERM; touch ready; while true; do sleep 0.1; done'
  )
  process = subprocess.Popen(['bash', f'{checkout}/launch/gpu.sh', CONFIG])
  while not (checkout / 'ready').exists():
    time.sleep(0.05)
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=30) == 75
  assert (checkout / 'saved').exists()
