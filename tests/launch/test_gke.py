"""The JobSet for Kubernetes."""

import pathlib

import yaml

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = '--config=configs/imagenet_cmpe50.py'
GKE = ('submit', '--name=run', '--image=x/y:1', '--accelerator=tpu7x', '--topology=4x4', CONFIG, '--workdir=gs://b/run')


def jobset(launch, *arguments):
  done = launch('gke.sh', *GKE, '--dry-run', *arguments)
  assert done.returncode == 0, done.stderr
  first, *body, last = done.stdout.splitlines()
  assert (first, last) == ("kubectl apply --filename=- << 'JOBSET'", 'JOBSET')
  assert '@' not in done.stdout
  return yaml.safe_load('\n'.join(body))


def test_gke_jobset(launch):
  found = jobset(launch, '--', '--config.dataset=folder:/a "b" \\c & it\'s')
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
    'python',
    '-m',
    'cmpe_jax.main',
    CONFIG,
    '--workdir=gs://b/run',
    '--config.dataset=folder:/a "b" \\c & it\'s',
  ]


def test_gke_jobset_on_spot_machines_with_data(launch):
  def pod_of(found):
    return found['spec']['replicatedJobs'][0]['template']['spec']['template']['spec']

  pod = pod_of(jobset(launch, '--spot', '--data-claim=imagenet'))
  assert pod['nodeSelector']['cloud.google.com/gke-spot'] == 'true'
  assert pod['volumes'] == [{'name': 'data', 'persistentVolumeClaim': {'claimName': 'imagenet', 'readOnly': True}}]
  assert pod['containers'][0]['volumeMounts'] == [{'name': 'data', 'mountPath': '/mnt/data', 'readOnly': True}]
  small = jobset(launch, '--topology=2x2x1', '--chips-per-host=8')
  assert small['spec']['replicatedJobs'][0]['template']['spec']['parallelism'] == 1
  assert pod_of(small)['containers'][0]['resources']['limits']['google.com/tpu'] == 4


def test_gke_other_actions(tmp_path, launch, stand_in, calls):
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
