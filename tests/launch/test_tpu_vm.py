"""Cloud TPU slices: commands, preemptions, and what runs on the workers."""

import pathlib
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = '--config=configs/imagenet_cmpe50.py'
TPU = ('train', '--name=run', '--zone=us-central1-a', '--type=v5litepod-16', CONFIG, '--workdir=gs://b/run')


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
def test_tpu_runtime_versions(kind, version, launch):
  done = launch('tpu_vm.sh', 'create', '--name=run', '--zone=us-central1-a', f'--type={kind}', '--dry-run')
  assert f'--runtime-version={version}' in done.stdout.split()
  done = launch(
    'tpu_vm.sh', 'create', '--name=run', '--zone=us-central1-a', f'--type={kind}', '--runtime=v9', '--dry-run'
  )
  assert '--runtime-version=v9' in done.stdout.split()


def test_tpu_delete_and_stop_dry_run(launch):
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
def test_tpu_train_goes_on_after_preemption_and_stops_at_wrong_inputs(
  codes, code, creations, starts, tmp_path, launch, stand_in, calls
):
  path = stand_in(tmp_path, 'gcloud', CLOUD)
  (tmp_path / 'codes').write_text(codes + '\n')
  done = launch('tpu_vm.sh', *TPU, '--attempts=3', path=path, HERE=str(tmp_path), TMPDIR=str(tmp_path))
  assert done.returncode == code, done.stderr
  assert sum('queued-resources create' in call for call in calls(tmp_path)) == creations
  assert sum('queued-resources delete' in call for call in calls(tmp_path)) == creations - 1
  assert sum('worker.sh start' in call for call in calls(tmp_path)) == starts
  assert (tmp_path / 'run.tar.gz').stat().st_size > 10_000


def test_tpu_train_ends_when_the_request_is_refused(tmp_path, launch, stand_in, calls):
  path = stand_in(tmp_path, 'gcloud', CLOUD)
  (tmp_path / 'broken').touch()
  assert launch('tpu_vm.sh', *TPU, path=path, HERE=str(tmp_path)).returncode == 2
  assert sum('create' in call for call in calls(tmp_path)) == 1


def test_worker_starts_shows_and_keeps_the_exit_code(checkout, launch):
  assert launch('worker.sh', 'code', root=checkout).stdout == 'none\n'
  launch('worker.sh', 'start', 'bash', '-c', 'echo "$0"; sleep 1; echo two; exit 75', 'one  word', root=checkout)
  assert launch('worker.sh', 'start', 'true', root=checkout).returncode == 2
  shown = launch('worker.sh', 'follow', root=checkout, HOSTNAME='t1v-n-abc-w-3')
  assert shown.stdout == '[worker 3] one  word\n[worker 3] two\n'
  assert launch('worker.sh', 'code', root=checkout).stdout == '75\n'


def test_worker_stop_lets_the_program_save(checkout, launch):
  program = 'trap "sleep 1; echo saved; exit 75" TERM; touch ready; while true; do sleep 0.1; done'
  launch('worker.sh', 'start', 'bash', '-c', program, root=checkout)
  while not (checkout / 'ready').exists():
    time.sleep(0.05)
  launch('worker.sh', 'stop', root=checkout)
  assert (checkout / 'run.log').read_text().endswith('saved\n')
  assert launch('worker.sh', 'code', root=checkout).stdout == '75\n'
