"""The launch scripts: dry runs to the letter, wrong flags, and their loops against recorded stand-ins for the clouds' commands."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = ('tpu_vm.sh', 'gke.sh', 'slurm.sh', 'gpu.sh')
CONFIG = '--config=configs/imagenet_cmpe50.py'


def launch(script, *arguments, root=ROOT, path='', **environment):
  """Runs a script with an otherwise empty PATH of clouds: what it would call must be in `path`."""
  env = os.environ | {'PATH': f'{path}:{os.environ["PATH"]}', 'POLL_SECONDS': '0'} | environment
  return subprocess.run(
    ['bash', f'{root}/launch/{script}', *arguments], env=env, capture_output=True, text=True, timeout=60
  )


def stand_in(folder, name, body):
  """An executable that writes its arguments to `calls` and then does `body`."""
  folder.mkdir(exist_ok=True)
  script = folder / name
  script.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> {folder}/calls\n{body}\n')
  script.chmod(0o755)
  return folder


def calls(folder):
  return (folder / 'calls').read_text().splitlines()


def test_shellcheck_finds_nothing():
  found = shutil.which('shellcheck', path=f'{ROOT}/.venv/bin:{os.environ["PATH"]}')
  if not found:
    pytest.skip('shellcheck is not installed (requirements-test.txt brings it)')
  scripts = [str(path) for path in (*ROOT.glob('launch/*.sh'), ROOT / '.ci' / 'run')]
  assert len(scripts) >= 7
  done = subprocess.run([found, *scripts], cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert done.stdout + done.stderr == ''


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_shows_every_flag(script):
  done = launch(script, '--help')
  assert done.returncode == 0
  declared = (ROOT / 'launch' / script).read_text().split('declare -A options=(')[1].split(')')[0]
  for word in declared.split():
    assert f'--{word.split("]")[0][1:]}' in done.stdout
  assert '--dry-run' in done.stdout
  assert 'set -euo' not in done.stdout


TPU = ('train', '--name=run', '--zone=us-central1-a', '--type=v5litepod-16', CONFIG, '--workdir=gs://b/run')
GKE = ('submit', '--name=run', '--image=x/y:1', '--accelerator=tpu7x', '--topology=4x4', CONFIG, '--workdir=gs://b/run')
SLURM = (CONFIG, '--workdir=/shared/run')


@pytest.mark.parametrize(
  ('script', 'arguments', 'said'),
  [
    ('tpu_vm.sh', (), 'say what to do: train create install start follow stop delete'),
    ('tpu_vm.sh', ('destroy',), "'destroy' is not an action here: choose one of train create"),
    ('tpu_vm.sh', (*TPU, '--zon=x'), '--zon is not a flag'),
    ('tpu_vm.sh', (*TPU, '--zone'), '--zone needs a value'),
    ('tpu_vm.sh', (*TPU, '--zone='), '--zone needs a value'),
    ('tpu_vm.sh', (*TPU, '--zone=mars'), '--zone=mars does not fit: a zone such as'),
    ('tpu_vm.sh', (*TPU, '--name=Run'), '--name=Run does not fit'),
    ('tpu_vm.sh', (*TPU, '--type=tpu7x-16'), 'launch/gke.sh'),
    ('tpu_vm.sh', (*TPU, '--workdir=runs/x'), 'a bucket such as gs://'),
    ('tpu_vm.sh', (*TPU, '--config=configs/nothing.py'), 'does not exist'),
    ('tpu_vm.sh', (*TPU, '--attempts=0'), '--attempts=0'),
    ('tpu_vm.sh', (*TPU, '--data-disk=disk'), 'projects/P/zones/Z/disks/D'),
    ('tpu_vm.sh', ('delete', '--name=run'), '--zone is missing'),
    ('gke.sh', (*GKE, '--topology=16'), '--topology=16 does not fit'),
    ('gke.sh', (*GKE, '--chips-per-host=3'), '--chips-per-host=3'),
    ('gke.sh', (*GKE, '--accelerator=h100'), '--accelerator=h100'),
    ('gke.sh', ('submit', '--name=run'), '--image is missing'),
    ('gke.sh', ('follow',), '--name is missing'),
    ('slurm.sh', (*SLURM, '--nodes=two'), '--nodes=two'),
    ('slurm.sh', (*SLURM, '--time=soon'), '--time=soon'),
    ('slurm.sh', (CONFIG,), '--workdir is missing'),
    ('slurm.sh', (*SLURM, 'submit'), "'submit' is not an action here"),
    ('gpu.sh', (), '--config is missing: a file such as configs/imagenet_cmpe50.py'),
    ('gpu.sh', (CONFIG, '--attempts=many'), '--attempts=many'),
  ],
)
def test_wrong_flags_end_with_code_2_and_one_sentence(script, arguments, said):
  done = launch(script, *arguments, '--dry-run')
  assert done.returncode == 2
  assert said in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1
  assert done.stdout == ''


def test_tpu_dry_run_prints_the_commands_and_runs_none(tmp_path):
  path = stand_in(tmp_path, 'gcloud', 'exit 1')
  done = launch(
    'tpu_vm.sh', *TPU, '--spot', '--project=p', '--data-disk=projects/p/zones/z/disks/d', '--dry-run', '--',
    '--config.batch_size=4096', '--config.dataset=folder:/a b', path=path, TMPDIR='/tmp',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  place = '--zone=us-central1-a --project=p'
  ssh = f"gcloud compute tpus tpu-vm ssh run {place} --worker=all '--command="
  assert done.stdout.splitlines() == [
    f'gcloud compute tpus queued-resources create run --node-id=run {place} --accelerator-type=v5litepod-16 '
    '--runtime-version=v2-alpha-tpuv5-lite --spot --data-disk=source=projects/p/zones/z/disks/d,mode=read-only',
    f'git -C {ROOT} archive --format=tar.gz --output=/tmp/run.tar.gz HEAD',
    f'gcloud compute tpus tpu-vm scp /tmp/run.tar.gz run:cmpe_jax.tar.gz {place} --worker=all',
    f"{ssh}mkdir -p cmpe_jax && tar -xzf cmpe_jax.tar.gz -C cmpe_jax && bash cmpe_jax/launch/worker.sh install'",
    f"{ssh}bash cmpe_jax/launch/worker.sh mount /dev/disk/by-id/google-persistent-disk-1 /mnt/data'",
    f'{ssh}bash cmpe_jax/launch/worker.sh start .venv/bin/python -m cmpe_jax.main {CONFIG} --workdir=gs://b/run '
    "--config.batch_size=4096 '\\''--config.dataset=folder:/a b'\\'''",
    f"{ssh}bash cmpe_jax/launch/worker.sh follow'",
    f"{ssh}bash cmpe_jax/launch/worker.sh code'",
  ]
  assert not (tmp_path / 'calls').exists()


@pytest.mark.parametrize(
  ('kind', 'version'),
  [('v4-32', 'tpu-ubuntu2204-base'), ('v5p-16', 'v2-alpha-tpuv5'), ('v6e-16', 'v2-alpha-tpuv6e')],
)
def test_tpu_runtime_versions(kind, version):
  done = launch('tpu_vm.sh', 'create', '--name=run', '--zone=us-central1-a', f'--type={kind}', '--dry-run')
  assert f'--runtime-version={version}' in done.stdout.split()
  done = launch(
    'tpu_vm.sh', 'create', '--name=run', '--zone=us-central1-a', f'--type={kind}', '--runtime=v9', '--dry-run'
  )
  assert '--runtime-version=v9' in done.stdout.split()


def test_tpu_delete_and_stop_dry_run():
  place = ('--name=run', '--zone=us-central1-a', '--dry-run')
  assert launch('tpu_vm.sh', 'delete', *place).stdout == (
    'gcloud compute tpus queued-resources delete run --zone=us-central1-a --force --quiet\n'
  )
  assert launch('tpu_vm.sh', 'stop', *place).stdout == (
    "gcloud compute tpus tpu-vm ssh run --zone=us-central1-a --worker=all '--command=bash cmpe_jax/launch/worker.sh stop'\n"
  )


# A cloud in a few lines: `state` holds the request's state, each line of `codes` what the workers of one start end with.
CLOUD = """
case "$*" in
  *queued-resources\\ describe*) [[ -f $HERE/state ]] && cat "$HERE/state" ;;
  *queued-resources\\ create*) [[ -f $HERE/broken ]] && exit 1; echo ACTIVE > "$HERE/state" ;;
  *queued-resources\\ delete*) rm "$HERE/state" ;;
  *worker.sh\\ code*)
    found=$(head -1 "$HERE/codes"); sed -i 1d "$HERE/codes"
    if [[ $found == lost ]]; then echo SUSPENDED > "$HERE/state"; exit 255; fi
    printf '%s\\n' $found ;;
  *worker.sh\\ follow*) exit 255 ;;
esac
exit 0
"""


@pytest.mark.parametrize(
  ('codes', 'code', 'creations', 'starts'),
  [
    ('0 0 0 0', 0, 1, 1),
    ('75 75 75 75\n0 0 0 0', 0, 1, 2),
    ('lost\nlost\n0 0 0 0', 0, 3, 3),
    ('134 none 134 134\n0 0 0 0', 0, 1, 2),
    ('2 2 2 2', 2, 1, 1),
    ('143 1 143 143', 1, 1, 1),
    ('75\n75\n75\n75', 75, 1, 3),
  ],
)
def test_tpu_train_goes_on_after_preemption_and_stops_at_wrong_inputs(codes, code, creations, starts, tmp_path):
  path = stand_in(tmp_path, 'gcloud', CLOUD)
  (tmp_path / 'codes').write_text(codes + '\n')
  done = launch('tpu_vm.sh', *TPU, '--attempts=3', path=path, HERE=str(tmp_path), TMPDIR=str(tmp_path))
  assert done.returncode == code, done.stderr
  assert sum('queued-resources create' in call for call in calls(tmp_path)) == creations
  assert sum('queued-resources delete' in call for call in calls(tmp_path)) == creations - 1
  assert sum('worker.sh start' in call for call in calls(tmp_path)) == starts
  assert (tmp_path / 'run.tar.gz').stat().st_size > 10_000


def test_tpu_train_ends_when_the_request_is_refused(tmp_path):
  path = stand_in(tmp_path, 'gcloud', CLOUD)
  (tmp_path / 'broken').touch()
  assert launch('tpu_vm.sh', *TPU, path=path, HERE=str(tmp_path)).returncode == 2
  assert sum('create' in call for call in calls(tmp_path)) == 1


@pytest.fixture
def checkout(tmp_path):
  """A folder with the scripts and a configuration, where programs can be put in place of the real one."""
  shutil.copytree(ROOT / 'launch', tmp_path / 'launch')
  shutil.copytree(ROOT / 'configs', tmp_path / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
  return tmp_path


def test_worker_starts_shows_and_keeps_the_exit_code(checkout):
  assert launch('worker.sh', 'code', root=checkout).stdout == 'none\n'
  launch('worker.sh', 'start', 'bash', '-c', 'echo "$0"; sleep 1; echo two; exit 75', 'one  word', root=checkout)
  assert launch('worker.sh', 'start', 'true', root=checkout).returncode == 2
  shown = launch('worker.sh', 'follow', root=checkout, HOSTNAME='t1v-n-abc-w-3')
  assert shown.stdout == '[worker 3] one  word\n[worker 3] two\n'
  assert launch('worker.sh', 'code', root=checkout).stdout == '75\n'


def test_worker_stop_lets_the_program_save(checkout):
  program = 'trap "sleep 1; echo saved; exit 75" TERM; touch ready; while true; do sleep 0.1; done'
  launch('worker.sh', 'start', 'bash', '-c', program, root=checkout)
  while not (checkout / 'ready').exists():
    time.sleep(0.05)
  launch('worker.sh', 'stop', root=checkout)
  assert (checkout / 'run.log').read_text().endswith('saved\n')
  assert launch('worker.sh', 'code', root=checkout).stdout == '75\n'


def jobset(*arguments):
  done = launch('gke.sh', *GKE, '--dry-run', *arguments)
  assert done.returncode == 0, done.stderr
  first, *body, last = done.stdout.splitlines()
  assert (first, last) == ("kubectl apply --filename=- << 'JOBSET'", 'JOBSET')
  assert '@' not in done.stdout
  return yaml.safe_load('\n'.join(body))


def test_gke_jobset():
  found = jobset('--', '--config.dataset=folder:/a "b" \\c & it\'s')
  assert (found['apiVersion'], found['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
  assert found['metadata']['name'] == 'run'
  assert found['spec']['failurePolicy'] == {
    'maxRestarts': 100,
    'rules': [{'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}],
  }
  job = found['spec']['replicatedJobs'][0]['template']['spec']
  assert (job['parallelism'], job['completions'], job['backoffLimit']) == (4, 4, 0)
  assert job['podFailurePolicy']['rules'] == [
    {'action': 'FailJob', 'onExitCodes': {'containerName': 'main', 'operator': 'In', 'values': [1, 2]}}
  ]
  pod = job['template']['spec']
  assert pod['restartPolicy'] == 'Never'
  assert pod['nodeSelector'] == {
    'cloud.google.com/gke-tpu-accelerator': 'tpu7x',
    'cloud.google.com/gke-tpu-topology': '4x4',
  }
  assert 'volumes' not in pod
  (container,) = pod['containers']
  assert container['image'] == 'x/y:1'
  assert container['resources'] == {'limits': {'google.com/tpu': 4}}
  assert container['command'] == [
    'python', '-m', 'cmpe_jax.main', CONFIG, '--workdir=gs://b/run', '--config.dataset=folder:/a "b" \\c & it\'s',
  ]  # fmt: skip


def test_gke_jobset_on_spot_machines_with_data():
  def pod_of(found):
    return found['spec']['replicatedJobs'][0]['template']['spec']['template']['spec']

  pod = pod_of(jobset('--spot', '--data-claim=imagenet'))
  assert pod['nodeSelector']['cloud.google.com/gke-spot'] == 'true'
  assert pod['volumes'] == [{'name': 'data', 'persistentVolumeClaim': {'claimName': 'imagenet', 'readOnly': True}}]
  assert pod['containers'][0]['volumeMounts'] == [{'name': 'data', 'mountPath': '/mnt/data', 'readOnly': True}]
  small = jobset('--topology=2x2x1', '--chips-per-host=8')
  assert small['spec']['replicatedJobs'][0]['template']['spec']['parallelism'] == 1
  assert pod_of(small)['containers'][0]['resources']['limits']['google.com/tpu'] == 4


def test_gke_other_actions(tmp_path):
  image = launch('gke.sh', 'image', '--name=run', '--image=x/y:1', '--dry-run').stdout.splitlines()
  assert image == [f'docker build --file={ROOT}/launch/Dockerfile --tag=x/y:1 {ROOT}', 'docker push x/y:1']
  follow = launch('gke.sh', 'follow', '--name=run', '--dry-run').stdout
  assert follow == (
    'kubectl logs --follow --prefix --max-log-requests=256 --selector=jobset.sigs.k8s.io/jobset-name=run\n'
  )
  path = stand_in(tmp_path, 'kubectl', 'cat >> "$HERE/applied"')
  assert launch('gke.sh', *GKE, path=path, HERE=str(tmp_path)).returncode == 0
  assert calls(tmp_path) == ['kubectl apply --filename=-']
  assert yaml.safe_load((tmp_path / 'applied').read_text())['kind'] == 'JobSet'


def test_slurm_dry_run():
  done = launch(
    'slurm.sh', *SLURM, '--nodes=2', '--gpus-per-node=4', '--partition=gpu', '--account=me', '--time=1-00:00:00',
    '--dry-run', '--', '--config.batch_size=2048',
  )  # fmt: skip
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
def test_slurm_job_queues_itself_again_when_interrupted(code, part, again, tmp_path):
  stand_in(tmp_path, 'sbatch', 'cat > "$HERE/job"')
  stand_in(tmp_path, 'srun', f'exit {code}')
  stand_in(tmp_path, 'scontrol', '')
  assert launch('slurm.sh', *SLURM, path=tmp_path, HERE=str(tmp_path)).returncode == 0
  env = os.environ | {
    'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '7', 'SLURM_RESTART_COUNT': str(part)
  }  # fmt: skip
  done = subprocess.run(['bash', str(tmp_path / 'job')], env=env, timeout=60)
  assert done.returncode == code
  assert calls(tmp_path).count('scontrol requeue 7') == again


def test_gpu_dry_run():
  done = launch('gpu.sh', CONFIG, '--dry-run', '--', '--config.batch_size=512')
  assert done.stdout.splitlines() == [
    'python3 -m venv .venv',
    '.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement=requirements-gpu.txt',
    'touch .venv/installed-gpu',
    f'.venv/bin/python -m cmpe_jax.main {CONFIG} --workdir=runs/imagenet_cmpe50 --config.batch_size=512',
  ]


def with_python(checkout, body):
  (checkout / '.venv').mkdir()
  (checkout / '.venv' / 'installed-gpu').touch()
  stand_in(checkout / '.venv' / 'bin', 'python', body)


@pytest.mark.parametrize(
  ('codes', 'code', 'starts'), [('75 137 0', 0, 3), ('2', 2, 1), ('1', 1, 1), ('75 75 75 75', 75, 3)]
)
def test_gpu_starts_again_when_interrupted(codes, code, starts, checkout):
  (checkout / 'codes').write_text('\n'.join(codes.split()) + '\n')
  with_python(checkout, 'code=$(head -1 codes); sed -i 1d codes; exit $code')
  assert launch('gpu.sh', CONFIG, '--attempts=3', root=checkout).returncode == code
  assert len(calls(checkout / '.venv' / 'bin')) == starts


def test_gpu_hands_sigterm_on_and_ends_with_the_programs_code(checkout):
  with_python(checkout, 'trap "sleep 0.5; touch saved; exit 75" TERM; touch ready; while true; do sleep 0.1; done')
  process = subprocess.Popen(['bash', f'{checkout}/launch/gpu.sh', CONFIG])
  while not (checkout / 'ready').exists():
    time.sleep(0.05)
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=30) == 75
  assert (checkout / 'saved').exists()
