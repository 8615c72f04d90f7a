"""The launch scripts: their help, and wrong flags."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = ('tpu_vm.sh', 'gke.sh', 'slurm.sh', 'gpu.sh')
CONFIG = '--config=configs/imagenet_cmpe50.py'


def test_shellcheck_finds_nothing():
  found = shutil.which('shellcheck', path=f'{ROOT}/.venv/bin:{os.environ["PATH"]}')
  if not found:
    pytest.skip('shellcheck is not installed (requirements-test.txt brings it)')
  scripts = [
    str(path) for path in (*ROOT.glob('launch/*.sh'), *ROOT.glob('tests/launch/slurm/*.sh'), ROOT / '.ci' / 'run')
  ]
  assert len(scripts) >= 7
  done = subprocess.run([found, *scripts], cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert done.stdout + done.stderr == ''


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_shows_every_flag(script, launch):
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
    ('tpu_vm.sh', (*TPU, '--type=v5e-16'), 'Cloud TPU calls it --type=v5litepod-16'),
    ('tpu_vm.sh', (*TPU, '--type=v5-16'), '--type=v5-16 does not fit'),
    ('tpu_vm.sh', (*TPU, '--data-device=sdb'), '--data-device=sdb'),
    ('tpu_vm.sh', (*TPU, '--workdir=runs/x'), 'a bucket such as gs://'),
    ('tpu_vm.sh', (*TPU, '--config=configs/nothing.py'), 'does not exist'),
    ('tpu_vm.sh', (*TPU, '--attempts=0'), '--attempts=0'),
    ('tpu_vm.sh', (*TPU, '--data-disk=disk'), 'projects/P/zones/Z/disks/D'),
    ('tpu_vm.sh', ('delete', '--name=run'), '--zone is missing'),
    ('gke.sh', (*GKE, '--topology=16'), '--topology=16 does not fit'),
    ('gke.sh', (*GKE, '--chips-per-host=3'), '--chips-per-host=3'),
    ('gke.sh', (*GKE, '--accelerator=h100'), '--accelerator=h100'),
    ('gke.sh', ('submit', '--name=run'), '--image is missing'),
    ('gke.sh', (*GKE, '--env=A=1', '--env=2'), '--env=2 does not fit: NAME=VALUE'),
    ('gke.sh', (*GKE, '--data-bucket=data', '--data-claim=c'), 'give one of them'),
    ('gke.sh', (*GKE, '--gcsfuse'), 'give --data-claim too'),
    ('gke.sh', (*GKE, '--queue=My Queue'), '--queue=My Queue'),
    ('gke.sh', ('follow',), '--name is missing'),
    ('slurm.sh', (*SLURM, '--nodes=two'), '--nodes=two'),
    ('slurm.sh', (*SLURM, '--time=soon'), '--time=soon'),
    ('slurm.sh', (*SLURM, '--tasks-per-node=2'), 'goes with --gpus-per-node=0'),
    ('slurm.sh', (*SLURM, '--gpus-per-node=-1'), '--gpus-per-node=-1'),
    ('slurm.sh', (CONFIG,), '--workdir is missing'),
    ('slurm.sh', (*SLURM, 'submit'), "'submit' is not an action here"),
    ('gpu.sh', (), '--config is missing: a file such as configs/imagenet_cmpe50.py'),
    ('gpu.sh', (CONFIG, '--attempts=many'), '--attempts=many'),
    ('gpu.sh', (CONFIG, '--cuda=11'), '--cuda=11 does not fit: 13, or 12'),
  ],
)
def test_wrong_flags_end_with_code_2_and_one_sentence(script, arguments, said, launch):
  done = launch(script, *arguments, '--dry-run')
  assert done.returncode == 2
  assert said in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1
  assert done.stdout == ''


def test_a_configuration_that_the_workers_would_not_get_costs_nothing(tmp_path):
  """They get the last commit, of a project that may be a folder of a larger repository."""
  top = tmp_path / 'larger' / 'project'
  shutil.copytree(ROOT / 'launch', top / 'launch')
  (top / 'configs').mkdir()
  (top / 'configs' / 'kept.py').write_text('')
  git = ['git', '-C', str(tmp_path / 'larger'), '-c', 'user.name=x', '-c', 'user.email=x@y']
  for words in (['init', '-q'], ['add', '.'], ['commit', '-qm', 'x']):
    subprocess.run([*git, *words], check=True, timeout=60)
  (top / 'configs' / 'new.py').write_text('')
  for name, code in (('kept', 0), ('new', 2)):
    words = [*TPU[:4], f'--config=configs/{name}.py', TPU[-1], '--dry-run']
    done = subprocess.run(['bash', top / 'launch' / 'tpu_vm.sh', *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
  assert '--config=configs/new.py is not in the last commit, which is what the workers get' in done.stderr
