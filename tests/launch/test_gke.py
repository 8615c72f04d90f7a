"""The JobSet for Kubernetes, and a user's day with it."""

import pathlib
import sys

import pytest
import yaml
from launch.schema import faults

ROOT = pathlib.Path(__file__).parents[2]
SHM = {'name': 'shm', 'emptyDir': {'medium': 'Memory'}}
CONFIG = '--config=configs/imagenet_cmpe50.py'
SUBMIT = ('submit', '--name=run', '--image=x/y:1', '--accelerator=tpu7x', '--topology=4x4')
GKE = (*SUBMIT, CONFIG, '--workdir=gs://b/run')


def jobset(launch, *arguments):
  done = launch('gke.sh', *GKE, '--dry-run', *arguments)
  assert done.returncode == 0, done.stderr
  first, *body, last = done.stdout.splitlines()
  assert (first, last) == ("kubectl apply --filename=- << 'JOBSET'", 'JOBSET')
  assert '@' not in done.stdout
  found = yaml.safe_load('\n'.join(body))
  assert faults(found) == []
  return found


def pod_of(found):
  return found['spec']['replicatedJobs'][0]['template']['spec']['template']['spec']


def test_gke_jobset(launch):
  found = jobset(launch, '--', '--config.dataset=folder:/a "b" \\c & it\'s')
  assert (found['apiVersion'], found['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
  assert found['metadata']['name'] == 'run'
  assert found['spec']['failurePolicy'] == {
    'maxRestarts': 100,
    'rules': [{'name': 'fault', 'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}],
  }
  job = found['spec']['replicatedJobs'][0]['template']['spec']
  assert (job['parallelism'], job['completions'], job['backoffLimit']) == (4, 4, 0)
  assert job['podFailurePolicy']['rules'] == [
    {'action': 'FailJob', 'onExitCodes': {'containerName': 'main', 'operator': 'In', 'values': [1, 2]}}
  ]
  pod = pod_of(found)
  assert pod['restartPolicy'] == 'Never'
  assert pod['nodeSelector'] == {
    'cloud.google.com/gke-tpu-accelerator': 'tpu7x',
    'cloud.google.com/gke-tpu-topology': '4x4',
  }
  assert 'serviceAccountName' not in pod
  assert pod['volumes'] == [SHM]
  assert 'labels' not in found['metadata']
  (container,) = pod['containers']
  assert container['image'] == 'x/y:1'
  assert container['volumeMounts'] == [{'name': 'shm', 'mountPath': '/dev/shm'}]
  assert container['resources'] == {'limits': {'google.com/tpu': 4}}
  assert container['env'] == [{'name': 'CMPE_JAX_PLATFORM', 'value': 'tpu'}]
  assert container['command'] == [
    'python',
    '-m',
    'cmpe_jax.main',
    CONFIG,
    '--workdir=gs://b/run',
    '--config.dataset=folder:/a "b" \\c & it\'s',
  ]


def test_gke_jobset_on_spot_machines_with_data(launch):
  pod = pod_of(jobset(launch, '--spot', '--data-claim=imagenet'))
  assert pod['nodeSelector']['cloud.google.com/gke-spot'] == 'true'
  data = {'name': 'data', 'persistentVolumeClaim': {'claimName': 'imagenet', 'readOnly': True}}
  assert pod['volumes'] == [SHM, data]
  assert pod['containers'][0]['volumeMounts'][1] == {'name': 'data', 'mountPath': '/mnt/data', 'readOnly': True}
  small = jobset(launch, '--topology=2x2x1', '--chips-per-host=8')
  assert small['spec']['replicatedJobs'][0]['template']['spec']['parallelism'] == 1
  assert pod_of(small)['containers'][0]['resources']['limits']['google.com/tpu'] == 4


def test_gke_jobset_with_a_bucket_a_queue_an_account_and_an_environment(launch):
  found = jobset(
    launch,
    '--data-bucket=gs://data/imagenet',
    '--queue=tpus',
    '--service-account=trainer',
    '--env=A=1,2,B=',
    "--env=XLA_FLAGS=--a=it's --b=2",
  )
  assert found['metadata']['labels'] == {'kueue.x-k8s.io/queue-name': 'tpus'}
  pod = pod_of(found)
  assert pod['serviceAccountName'] == 'trainer'
  assert {entry['name']: entry['value'] for entry in pod['containers'][0]['env']} == {
    'A': '1,2',
    'B': '',
    'XLA_FLAGS': "--a=it's --b=2",
    'CMPE_JAX_PLATFORM': 'tpu',
  }
  attributes = {'bucketName': 'data', 'mountOptions': 'implicit-dirs,only-dir=imagenet'}
  csi = {'driver': 'gcsfuse.csi.storage.gke.io', 'readOnly': True, 'volumeAttributes': attributes}
  assert pod['volumes'] == [SHM, {'name': 'data', 'csi': csi}]
  assert pod['containers'][0]['volumeMounts'][1] == {'name': 'data', 'mountPath': '/mnt/data', 'readOnly': True}
  for arguments in (('--data-bucket=data',), ('--data-claim=data', '--gcsfuse')):
    template = jobset(launch, *arguments)['spec']['replicatedJobs'][0]['template']['spec']['template']
    assert template['metadata'] == {'annotations': {'gke-gcsfuse/volumes': 'true'}}
  again = pod_of(jobset(launch, '--env=CMPE_JAX_PLATFORM=cpu'))
  assert again['containers'][0]['env'] == [{'name': 'CMPE_JAX_PLATFORM', 'value': 'cpu'}]


def test_the_schema_finds_what_the_server_would_refuse(launch):
  found = jobset(launch)
  pod_of(found)['containers'][0]['comand'] = ['x']
  pod_of(found)['terminationGracePeriodSeconds'] = '300'
  found['spec']['failurePolicy']['rules'] = [{'action': 'FailJob'}]
  rule = 'JobSet.spec.failurePolicy.rules[0]'
  pod = 'JobSet.spec.replicatedJobs[0].template.spec.template.spec'
  assert sorted(faults(found)) == [
    f"{rule}.action is 'FailJob', not one of ['FailJobSet', 'RestartJobSet', 'RestartJobSetAndIgnoreMaxRestarts']",
    f'{rule}.name is missing',
    f'{pod}.containers[0].comand is unknown',
    f"{pod}.terminationGracePeriodSeconds is '300', not of type integer",
  ]


def test_gke_other_dry_runs(launch):
  image = launch('gke.sh', 'image', '--name=run', '--image=x/y:1', '--dry-run').stdout.splitlines()
  build = f'docker build --platform=linux/amd64 --file={ROOT}/launch/Dockerfile --tag=x/y:1 {ROOT}'
  assert image == [build, 'docker push x/y:1']
  follow = launch('gke.sh', 'follow', '--name=run', '--dry-run').stdout
  assert follow == (
    'kubectl logs --follow --prefix --tail=-1 --max-log-requests=256 --container=main '
    '--selector=jobset.sigs.k8s.io/jobset-name=run\n'
  )


@pytest.fixture
def cluster(tmp_path, launch):
  """A cluster in a folder: `cluster.folder`, and `cluster(*arguments)` runs gke.sh against it."""
  kubectl = tmp_path / 'kubectl'
  kubectl.write_text(f'#!/bin/sh\nexec {sys.executable} {pathlib.Path(__file__).parent}/cluster.py "$@"\n')
  kubectl.chmod(0o755)

  def run(*arguments):
    return launch('gke.sh', *arguments, path=tmp_path, CLUSTER=str(tmp_path), POLL_SECONDS='0.1')

  run.folder = tmp_path
  return run


def test_gke_a_users_day(cluster):
  (cluster.folder / 'lives').write_text('0 0\n75 75\n75 137\n0 0\n')
  (cluster.folder / 'plan').write_text('\ncreating\n\ndrop\n')
  checked = cluster(*GKE, '--check')
  assert checked.returncode == 0, checked.stderr
  assert '[pod/run-check-slice-0-1/main] life 0 line 0\n' in checked.stdout
  assert checked.stdout.endswith('jobset.jobset.x-k8s.io "run-check" deleted\n')

  assert cluster(*GKE).returncode == 0
  assert cluster(*GKE).returncode == 2  # it runs
  followed = cluster('follow', '--name=run')
  assert followed.returncode == 0, followed.stderr
  for life in range(3):
    for line in range(12):
      assert f'[pod/run-slice-0-0/main] life {life} line {line}\n' in followed.stdout
  again = cluster(*GKE)
  assert 'the JobSet run of before has ended (Completed): it is deleted.' in again.stdout
  assert again.stdout.endswith('jobset.jobset.x-k8s.io/run created\n')
  assert cluster('delete', '--name=run').returncode == 0
  gone = cluster('follow', '--name=run')
  assert (gone.returncode, gone.stderr) == (2, 'gke.sh: there is no JobSet run: submit it first.\n')


@pytest.mark.parametrize(('codes', 'code'), [('2 75', 2), ('143 1', 1), ('75 75', 75)])
def test_gke_check_ends_with_the_programs_code(codes, code, cluster):
  (cluster.folder / 'lives').write_text(f'{codes}\n')
  done = cluster(*GKE, '--check')
  assert done.returncode == code
  assert f'the JobSet run-check failed with exit code {code}.' in done.stderr
  assert not (cluster.folder / 'jobset').exists()
