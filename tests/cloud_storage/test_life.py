"""The life of a run in a bucket, from the first step to what the tools read of it."""

import importlib.util
import json
import signal
import socket
import time

import pytest
from cloud_storage.commands import WORKDIR, lines, names, said, saved, wait_for

pytestmark = pytest.mark.skipif(importlib.util.find_spec('gcsfs') is None, reason='gcsfs is not installed')


@pytest.fixture
def cloud(commands):
  """The service that the commands talk to."""
  return commands.cloud


def test_life(cloud, commands):
  cloud.faults.order('hang', 'POST', 'name=run/checkpoints/10/commit_success', seconds=5)
  first = commands.start(f'--config={commands.config}', WORKDIR)
  wait_for(cloud, 'name=run/checkpoints/10/commit_success')  # all of it is there but the mark
  first.send_signal(signal.SIGKILL)
  first.communicate()
  assert saved(cloud) == [5]
  cloud.faults.clear()
  cloud.store.remove('bucket', 'run/.lease', {})  # as if a minute had passed: tests/runtime/test_lock.py waits for it

  code, out, err = commands.main(WORKDIR)
  assert code == 0, err
  assert 'going on from the checkpoint at step 5' in out
  assert saved(cloud) == [10, 14]
  assert [line['step'] for line in lines(cloud)] == [2, 4, 6, 7, 8, 10, 12, 14, 14]
  assert any(name.startswith('run/tensorboard/events.out.tfevents') for name in names(cloud))
  assert names(cloud, 'run/starts/') == [f'run/starts/000{number}.json' for number in (1, 2)]
  code, out, err = commands.tool('summary', WORKDIR)
  assert code == 0, err
  assert [line.split()[3] for line in out.split('\n\n')[1].splitlines()[1:]] == ['killed', 'done']
  assert 'Of what was done in the last half minute before a kill, a bucket knows nothing' in out

  code, out, err = commands.main(WORKDIR, '--mode=eval')
  assert (code, 'gs://bucket/run/checkpoints/14' in out) == (0, True), err
  assert not list(commands.folder.glob('gs:*'))  # nothing went into a folder of that name
  assert [request for request in cloud.faults.requests() if request.status in (500, 501)] == []


@pytest.mark.slow
def test_tools(cloud, commands):
  from PIL import Image

  code, _, err = commands.main(WORKDIR)
  assert code == 0, err
  code, out, err = commands.main(WORKDIR)
  assert (code, 'nothing left to do' in out) == (0, True), err

  Image.new('L', (8, 8)).save(commands.folder / 'digit.png')
  code, out, err = commands.tool('predict', WORKDIR, commands.folder / 'digit.png')
  assert (code, 'digit.png' in out) == (0, True), err
  code, out, err = commands.tool('export', WORKDIR, f'--output={commands.folder}/exported')
  assert (code, (commands.folder / 'exported/model.stablehlo').exists()) == (0, True), err
  assert not list(commands.folder.glob('gs:*'))  # nothing went into a folder of that name
  assert [request for request in cloud.faults.requests() if request.status in (500, 501)] == []


@pytest.mark.slow
def test_the_same_numbers_as_in_a_folder(cloud, commands):
  assert commands.main(WORKDIR)[0] == commands.main(f'--workdir={commands.folder}/run')[0] == 0
  local = [json.loads(line) for line in (commands.folder / 'run/metrics.jsonl').read_text().splitlines()]
  timed = ('train/images_per_second', 'train/data_wait')
  ours, theirs = ([{k: v for k, v in line.items() if k not in timed} for line in run] for run in (lines(cloud), local))
  assert ours == theirs


@pytest.mark.slow
def test_two_processes(cloud, commands):
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{found.getsockname()[1]}'
  flags = [f'--config={commands.config}', WORKDIR, f'--coordinator_address={address}', '--num_processes=2']
  for more, wanted in (([], 'step 14/14'), (['--mode=eval'], 'test accuracy')):
    started = [commands.start(*flags, f'--process_id={number}', *more) for number in range(2)]
    ended = [commands.end(process) for process in started]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert wanted in ended[0][1]
  assert saved(cloud) == [10, 14]


@pytest.mark.slow
def test_a_profile_lands_in_the_bucket(cloud, commands):
  code, out, err = commands.main(WORKDIR, '--profile=3:5')
  assert (code, 'gs://bucket/run/profile' in out) == (0, True), err
  assert any(name.endswith('.xplane.pb') for name in names(cloud, 'run/profile/'))


@pytest.mark.slow
def test_compiled_programs_in_the_bucket(cloud, commands):
  """They lie beside the run; one that goes on from another machine compiles nothing again."""
  environment = {'JAX_COMPILATION_CACHE_DIR': None}
  cloud.faults.order('hang', 'POST', 'name=run/checkpoints/10/commit_success', seconds=5)
  first = commands.start(f'--config={commands.config}', WORKDIR, **environment)
  wait_for(cloud, 'name=run/checkpoints/10/commit_success')  # it has trained and evaluated by then
  first.send_signal(signal.SIGKILL)
  first.communicate()
  kept = names(cloud, 'run/compiled_programs/')
  assert kept
  cloud.faults.clear()
  code, out, err = commands.main(WORKDIR, **environment)
  assert (code, 'going on from the checkpoint at step 5' in out) == (0, True), err
  assert names(cloud, 'run/compiled_programs/') == kept
  assert not cloud.faults.requests('POST', 'name=run/compiled_programs/')


@pytest.mark.slow
def test_a_damaged_checkpoint_is_put_aside(cloud, commands):
  code, _, err = commands.main(WORKDIR)
  assert code == 0, err
  below = [item['name'] for item in cloud.store.list('bucket', {'prefix': 'run/checkpoints/14/'})['items']]
  damaged = {}  # the two that hold the arrays: which of them has the weights, which is all that is read here, varies
  for name in below:
    data = bytearray(cloud.store.get('bucket', name, {}).data)
    if len(data) > 100_000:
      for i in range(1, 200):
        data[len(data) * i // 200] ^= 1
      damaged[name] = bytes(data)
      cloud.store.put('bucket', name, damaged[name], {})
  assert damaged
  code, _, err = commands.main(WORKDIR, '--mode=eval')
  assert (code, 'run/checkpoints/14 is damaged (' in said(err)) == (2, True), err

  code, out, err = commands.main(WORKDIR)
  assert code == 0, err
  assert 'it lies in gs://bucket/run/checkpoints/damaged/14 now' in out
  assert 'going on from the checkpoint at step 10' in out
  assert saved(cloud) == [10, 14]
  for name, data in damaged.items():
    assert cloud.store.get('bucket', name.replace('/14/', '/damaged/14/'), {}).data == data
  assert [line['step'] for line in lines(cloud)] == [2, 4, 6, 7, 8, 10, 12, 14, 14]
  files = names(cloud, 'run/tensorboard/')
  assert [file[-2:] for file in files] == ['.0', '.1']  # those of the first run are gone


@pytest.mark.slow
def test_a_signal_after_the_last_step_waits_for_the_last_lines(cloud, commands):
  """The service is slow: when the last checkpoint is there, its lines are still under way."""
  cloud.faults.order('hang', 'POST', 'run/metrics', times=10**6, seconds=4.0)
  process = commands.start(f'--config={commands.config}', WORKDIR)
  end = time.monotonic() + 200
  while saved(cloud)[-1:] != [14]:
    assert time.monotonic() < end
    time.sleep(0.05)
  time.sleep(0.5)
  process.send_signal(signal.SIGTERM)
  code, _, err = commands.end(process)
  assert code in (0, 75), err
  assert lines(cloud)[-1]['step'] == 14
