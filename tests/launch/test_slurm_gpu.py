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
    'sbatch --job-name=cmpe_jax --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --gpu-bind=none --cpus-per-task=8 '
    '--time=1-00:00:00 --signal=TERM@120 --requeue --open-mode=append --output=cmpe_jax.log --partition=gpu '
    "--account=me << 'JOB'"
  )
  assert lines[2] == f'cd {ROOT} || exit 2'
  assert lines[3].startswith('export CMPE_JAX_PLATFORM=gpu ')
  assert lines[4] == (
    'srun --cpus-per-task=8 --kill-on-bad-exit=0 --wait=300 bash launch/task.sh .venv/bin/python -m cmpe_jax.main '
    f'{CONFIG} --workdir=/shared/run --config.batch_size=2048'
  )


def test_slurm_dry_run_of_a_check_without_gpus(launch):
  lines = launch(
    'slurm.sh', *SLURM, '--gpus-per-node=0', '--tasks-per-node=2', '--check', '--dry-run'
  ).stdout.splitlines()
  assert lines[0] == (
    'sbatch --job-name=cmpe_jax --nodes=1 --ntasks-per-node=2 --cpus-per-task=8 --time=24:00:00 --signal=TERM@120 '
    "--no-requeue --wait --output=cmpe_jax-check.log << 'JOB'"
  )
  assert lines[3].startswith('export CMPE_JAX_PLATFORM=cpu ')
  assert f'.venv/bin/python -m cmpe_jax.tools.check {CONFIG}' in lines[4]


@pytest.mark.parametrize(
  ('code', 'part', 'again'),
  [(0, 0, 0), (75, 0, 1), (137, 5, 1), (2, 0, 0), (1, 0, 0), (75, 99, 0), (201, 0, 0), (202, 0, 0)],
)
def test_slurm_job_queues_itself_again_when_interrupted(code, part, again, tmp_path, launch, stand_in, calls):
  stand_in(tmp_path, 'sbatch', 'cat > "$HERE/job"')
  stand_in(tmp_path, 'srun', f'exit {code}')
  stand_in(tmp_path, 'scontrol', '')
  assert launch('slurm.sh', *SLURM, path=tmp_path, HERE=str(tmp_path)).returncode == 0
  env = os.environ | {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '7', 'SLURM_RESTART_COUNT': str(part)}
  done = subprocess.run(['bash', str(tmp_path / 'job')], env=env, timeout=60)
  assert done.returncode == {201: 1, 202: 2}.get(code, code)
  assert calls(tmp_path).count('scontrol requeue 7') == again


@pytest.mark.parametrize(
  ('code', 'ends_with', 'others_told'), [(0, 0, 0), (75, 75, 0), (137, 137, 0), (1, 201, 1), (2, 202, 1), (127, 201, 1)]
)
def test_slurm_task_makes_1_and_2_win(code, ends_with, others_told, tmp_path, launch, stand_in, calls):
  path = stand_in(tmp_path / 'bin', 'scancel', '')
  step = {'SLURM_JOB_ID': '7', 'SLURM_STEP_ID': '0', 'GRACE_SECONDS': '0'}
  assert launch('task.sh', 'bash', '-c', f'exit {code}', path=path, **step).returncode == ends_with
  assert 'scancel --signal=TERM 7.0' in calls(path) if others_told else not (path / 'calls').exists()


@pytest.mark.parametrize('reaches', ['task.sh', 'every process'])
def test_slurm_a_signal_is_heard_once_however_the_cluster_sends_it(reaches, tmp_path, wait_for):
  program = 'trap "echo told" TERM; touch ready; for _ in {1..30}; do sleep 0.1; done; exit 75'
  words = ['bash', f'{ROOT}/launch/task.sh', 'bash', '-c', program]
  process = subprocess.Popen(words, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, text=True)
  while not (tmp_path / 'ready').exists():
    time.sleep(0.05)
  (process.send_signal if reaches == 'task.sh' else lambda number: os.killpg(process.pid, number))(signal.SIGTERM)
  output, _ = process.communicate(timeout=30)
  assert (output, process.returncode) == ('told\n', 75)
  left = ['pgrep', '--pgroup', str(process.pid), '--runstates', 'R,S,D']
  wait_for(lambda: subprocess.run(left, stdout=subprocess.DEVNULL).returncode == 1, seconds=5)  # nothing is left of it


def test_gpu_dry_run(launch):
  done = launch('gpu.sh', CONFIG, '--dry-run', '--', '--config.batch_size=512')
  assert done.stdout.splitlines() == [
    'python3 -m venv .venv',
    '.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement=requirements-gpu.txt',
    'touch .venv/installed-gpu',
    'export CMPE_JAX_PLATFORM=gpu',
    f'.venv/bin/python -m cmpe_jax.main {CONFIG} --workdir=runs/imagenet_cmpe50 --config.batch_size=512',
  ]


def test_gpu_dry_run_of_a_check_with_cuda_12(launch):
  lines = launch('gpu.sh', CONFIG, '--cuda=12', '--check', '--dry-run').stdout.splitlines()
  assert lines[1].endswith(' --requirement=requirements-gpu-cuda12.txt')
  assert lines[2] == 'touch .venv/installed-gpu-cuda12'
  assert lines[4] == f'.venv/bin/python -m cmpe_jax.tools.check {CONFIG} --workdir=runs/imagenet_cmpe50'
  bounds = [
    (ROOT / f'requirements-{name}.txt').read_text().replace('cuda12', 'cuda13') for name in ('gpu', 'gpu-cuda12')
  ]
  assert bounds[0].splitlines()[1:] == bounds[1].splitlines()[1:]


def test_gpu_of_one_cuda_does_not_touch_the_others_environment(checkout, launch):
  (checkout / '.venv').mkdir()
  (checkout / '.venv' / 'installed-gpu').touch()
  done = launch('gpu.sh', CONFIG, '--cuda=12', root=checkout)
  assert done.returncode == 2
  assert '.venv has what requirements-gpu.txt installs: rm -r .venv first' in done.stderr


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


def processes(checkout, number, count=2, **environment):
  words = ['bash', f'{checkout}/launch/gpu.sh', CONFIG, f'--workdir={checkout}/w', '--']
  words += [f'--num_processes={count}', f'--process_id={number}']
  return subprocess.Popen(
    words, env=os.environ | {'GRACE_SECONDS': '1'} | environment, stderr=subprocess.PIPE, text=True
  )


WAITS = 'for word; do [[ $word != --process_id=1 ]] || exit ${CODE:-2}; done; touch waits; exec sleep ${WAIT:-60}'


def test_gpu_machines_do_not_wait_for_one_that_ended_for_good(checkout, stand_in):
  with_python(stand_in, checkout, WAITS)
  first = processes(checkout, 0)
  while not (checkout / 'waits').exists():
    time.sleep(0.05)
  began = time.monotonic()
  assert processes(checkout, 1).wait(timeout=30) == 2
  assert first.wait(timeout=30) == 2
  assert time.monotonic() - began < 10  # and not 60
  assert 'process 1 ended with 2 and cannot go on: this one ends too.' in first.stderr.read()


def test_gpu_machines_do_not_take_an_earlier_end_for_a_new_one(checkout, stand_in):
  with_python(stand_in, checkout, WAITS)
  assert processes(checkout, 1).wait(timeout=30) == 2
  first = processes(checkout, 0, WAIT='4')
  time.sleep(1)
  second = processes(checkout, 1, CODE='0')  # it is started again, and takes back what it said
  assert (first.wait(timeout=30), second.wait(timeout=30)) == (0, 0)


def test_gpu_a_machine_that_is_no_longer_one_of_them_has_nothing_to_say(checkout, stand_in):
  with_python(stand_in, checkout, WAITS)
  assert processes(checkout, 1).wait(timeout=30) == 2
  body = 'touch starts; echo >> starts; (($(wc -l < starts) == 3)) || exit 75'
  stand_in(checkout / '.venv' / 'bin', 'python', body)
  assert processes(checkout, 0, count=1).wait(timeout=30) == 0
  assert (checkout / 'starts').read_text() == '\n' * 3


def test_gpu_a_workdir_in_the_home_folder_is_there(checkout, stand_in, tmp_path):
  with_python(stand_in, checkout, 'exit 0')
  words = ['bash', f'{checkout}/launch/gpu.sh', CONFIG, '--workdir=~/runs/x', '--', '--process_id=0']
  assert subprocess.run(words, env=os.environ | {'HOME': str(tmp_path / 'home')}, timeout=30).returncode == 0
  assert (tmp_path / 'home' / 'runs' / 'x' / 'ended').is_dir()
  assert not (checkout / '~').exists()
