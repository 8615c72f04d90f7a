"""What a run is computed on: the platform that the launcher expects, and TPU chips outside of a cluster."""

import pytest
from harness import ROOT, begin

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import start

CHIPS = """
import glob, importlib.util, os, sys
real = importlib.util.find_spec
glob.glob = lambda pattern, **rest: ['/dev/vfio/0'] if pattern.startswith('/dev/vfio') else []
importlib.util.find_spec = lambda name, *rest: real('json') if name == 'libtpu' else real(name, *rest)
import jax
for name in [name for name in os.environ if name.startswith(('SLURM', 'OMPI', 'TPU'))]:
  del os.environ[name]
if 'GCE_METADATA_IP' in os.environ:  # as where JAX sees the chips
  from jax._src.clusters import cloud_tpu_cluster, cluster
  cloud_tpu_cluster.running_in_cloud_tpu_vm = cluster.running_in_cloud_tpu_vm = True
from cmpe_jax.runtime import command, processes

def body():
  processes.start(None, None, None)
  assert (jax.process_count(), jax.device_count()) == (1, 2)
  assert float(jax.pmap(lambda x: jax.lax.psum(x, 'i'), 'i')(jax.numpy.arange(2.0))[0]) == 1
  print('computed')

sys.exit(command.run(body, ['chips']))
"""


def test_chips_without_a_cluster_are_used_by_one_process():
  for environment in ({}, {'GCE_METADATA_IP': 'metadata.invalid'}):  # a name that never resolves
    alone = begin(['-c', CHIPS], devices=2, **environment)
    output = alone.communicate(timeout=60)[0]
    assert alone.returncode == 0, output
    assert 'computed' in output
    assert output.count('one process: this machine has TPU chips, but no cluster') == 1
    assert 'Traceback' not in output


def test_a_machine_of_the_cloud_that_is_not_told_its_slice_does_not_train_alone():
  alone = begin(['-c', CHIPS], devices=2, GCE_METADATA_IP='127.0.0.1:1')
  output = alone.communicate(timeout=60)[0]
  assert alone.returncode == 75, output
  assert 'did not answer which TPU slice this machine is part of' in output


def test_the_platform_that_is_expected(monkeypatch):
  for value in (None, '', 'cpu'):
    monkeypatch.delenv(start.PLATFORM, raising=False)
    if value is not None:
      monkeypatch.setenv(start.PLATFORM, value)
    start.check_platform()
  for wanted, fix in (('gpu', 'requirements-gpu-cuda12.txt with an older one'), ('tpu', 'requirements-tpu.txt')):
    monkeypatch.setenv(start.PLATFORM, wanted)
    with pytest.raises(UserError, match=f"CMPE_JAX_PLATFORM={wanted}, but JAX found only the platform 'cpu'.*{fix}"):
      start.check_platform()
  monkeypatch.setenv(start.PLATFORM, 'npu')
  with pytest.raises(UserError, match="CMPE_JAX_PLATFORM='npu' is not known. Choose one of: 'gpu', 'tpu', 'cpu'"):
    start.check_platform()


@pytest.mark.parametrize('command', ['cmpe_jax.main', pytest.param('cmpe_jax.tools.compare', marks=pytest.mark.slow)])
def test_commands_that_train_hold_their_platform_against_it(command, tmp_path):
  arguments = [f'--config={ROOT}/configs/digits.py', f'--workdir={tmp_path / "run"}']
  ended = begin(['-m', command, *arguments], CMPE_JAX_PLATFORM='gpu')
  output = ended.communicate(timeout=60)[0]
  assert ended.returncode == 2, output
  assert "error: CMPE_JAX_PLATFORM=gpu, but JAX found only the platform 'cpu'" in output
  assert not (tmp_path / 'run').exists()
