"""Cloud TPU slices: the commands to the letter, and what is looked at before anything is paid for."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = '--config=configs/imagenet_cmpe50.py'
SLICE = ('--name=run', '--zone=us-central1-a')
TPU = ('train', *SLICE, '--type=v5litepod-16', CONFIG, '--workdir=gs://b/run')


def test_tpu_dry_run_prints_the_commands_and_runs_none(tmp_path, launch, stand_in):
  path = stand_in(tmp_path, 'gcloud', 'exit 1')
  done = launch(
    'tpu_vm.sh',
    *TPU,
    '--spot',
    '--project=p',
    '--data-disk=projects/p/zones/z/disks/d',
    '--dry-run',
    '--',
    '--config.batch_size=4096',
    '--config.dataset=folder:/a b',
    path=path,
    TMPDIR='/tmp',
  )
  assert done.returncode == 0, done.stderr
  place = '--zone=us-central1-a --project=p'
  ssh = f"gcloud compute tpus tpu-vm ssh run {place} --worker=all '--command="
  program = (
    f'.venv/bin/python -m cmpe_jax.main {CONFIG} --workdir=gs://b/run --config.batch_size=4096 '
    "'\\''--config.dataset=folder:/a b'\\'''"
  )
  assert done.stdout.splitlines() == [
    f'gcloud compute tpus queued-resources create run --node-id=run {place} --accelerator-type=v5litepod-16 '
    '--runtime-version=v2-alpha-tpuv5-lite --spot --data-disk=source=projects/p/zones/z/disks/d,mode=read-only',
    f'git -C {ROOT} archive --format=tar.gz --output=/tmp/run.tar.gz HEAD',
    f'gcloud compute tpus tpu-vm scp /tmp/run.tar.gz run:cmpe_jax.tar.gz {place} --worker=all',
    f'{ssh}mkdir -p cmpe_jax && (flock 9; if [ "$(bash cmpe_jax/launch/worker.sh code 2> /dev/null)" != running ]; '
    "then tar -xzf cmpe_jax.tar.gz -C cmpe_jax; fi) 9> cmpe_jax/lock && bash cmpe_jax/launch/worker.sh install'",
    f"{ssh}bash cmpe_jax/launch/worker.sh mount auto /mnt/data'",
    f'{ssh}CMPE_JAX_LOGS=gs://b/run/logs bash cmpe_jax/launch/worker.sh start {program}',
    f"{ssh}bash cmpe_jax/launch/worker.sh follow'",
    f'{ssh}bash cmpe_jax/launch/worker.sh code {program}',
    f'gcloud compute tpus queued-resources delete run {place} --force --quiet',
  ]
  assert not (tmp_path / 'calls').exists()


def test_tpu_dry_run_of_a_check_on_a_slice_that_is_kept(launch):
  lines = launch('tpu_vm.sh', *TPU, '--check', '--keep', '--dry-run').stdout.splitlines()
  assert f'worker.sh start .venv/bin/python -m cmpe_jax.tools.check {CONFIG} --workdir=gs://b/run' in lines[4]
  assert not any('cmpe_jax.main' in line or 'delete' in line for line in lines)


@pytest.mark.parametrize(
  ('kind', 'version'),
  [('v4-32', 'tpu-ubuntu2204-base'), ('v5p-16', 'v2-alpha-tpuv5'), ('v6e-16', 'v2-alpha-tpuv6e')],
)
def test_tpu_runtime_versions(kind, version, launch):
  done = launch('tpu_vm.sh', 'create', *SLICE, f'--type={kind}', '--dry-run')
  assert f'--runtime-version={version}' in done.stdout.split()
  done = launch('tpu_vm.sh', 'create', *SLICE, f'--type={kind}', '--runtime=v9', '--dry-run')
  assert '--runtime-version=v9' in done.stdout.split()


def test_tpu_delete_and_stop_dry_run(launch):
  assert launch('tpu_vm.sh', 'delete', *SLICE, '--dry-run').stdout == (
    'gcloud compute tpus queued-resources delete run --zone=us-central1-a --force --quiet\n'
  )
  assert launch('tpu_vm.sh', 'stop', *SLICE, '--dry-run').stdout == (
    'gcloud compute tpus tpu-vm ssh run --zone=us-central1-a --worker=all '
    "'--command=bash cmpe_jax/launch/worker.sh stop'\n"
  )


def test_tpu_data_disk_is_looked_at_before_anything_is_paid_for(cloud):
  create = ('create', *SLICE, '--type=v6e-16', '--data-disk=projects/p/zones/z/disks/d')
  for found, said in (
    (None, "cannot be looked at: ERROR: (gcloud.compute.disks.describe) The resource 'disks/d' was not found"),
    ('pd-balanced,', 'is a pd-balanced: v6e takes hyperdisk-balanced or hyperdisk-ml only'),
    (
      'hyperdisk-ml,READ_WRITE_SINGLE',
      'run gcloud compute disks update d --zone=z --project=p --access-mode=READ_ONLY_MANY',
    ),
  ):
    if found:
      (cloud.folder / 'disks' / 'd').write_text(found)
    done = cloud.run('tpu_vm.sh', *create)
    assert done.returncode == 2
    assert said in done.stderr
  assert cloud.calls('queued-resources') == 0
  (cloud.folder / 'disks' / 'd').write_text('hyperdisk-ml,READ_ONLY_MANY')
  assert cloud.run('tpu_vm.sh', *create).returncode == 0


def test_tpu_agent_without_gclouds_key_is_said_before_anything_is_paid_for(cloud):
  create = ('create', *SLICE, '--type=v4-16')
  cloud.add('bin/ssh-add', '#!/bin/sh\necho "3072 SHA256:other me@home (RSA)"\n')
  cloud.add('bin/ssh-keygen', '#!/bin/sh\necho "3072 SHA256:google me@home (RSA)"\n')
  done = cloud.run('tpu_vm.sh', *create)
  assert (done.returncode, 'run gcloud compute config-ssh, then ssh-add' in done.stderr) == (2, True)
  (cloud.folder / '.ssh').mkdir()
  (cloud.folder / '.ssh' / 'google_compute_engine').touch()
  done = cloud.run('tpu_vm.sh', *create)
  assert (done.returncode, 'reaches no more than one worker: run ssh-add' in done.stderr) == (2, True)
  assert not (cloud.folder / 'calls').exists()
  assert cloud.run('tpu_vm.sh', 'create', '--name=one', '--zone=us-central1-a', '--type=v4-8').returncode == 0
  cloud.add('bin/ssh-add', '#!/bin/sh\necho "3072 SHA256:google me@home (RSA)"\n')
  assert cloud.run('tpu_vm.sh', *create).returncode == 0
