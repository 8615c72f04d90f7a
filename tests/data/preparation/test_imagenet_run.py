"""From the two tars to an evaluated network by the commands that the README gives, killed on the way."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from harness import ROOT, newest_arrays

SMALL = (
  '--config=configs/imagenet_cmpe50.py',
  '--config.image_size=64',
  '--config.batch_size=4',
  '--config.epochs=4.0',
  '--config.warmup_epochs=1.0',
  '--config.log_every_steps=1',
  '--config.checkpoint_every_steps=3',
  '--config.ema_decay=0.9',
)


def begin(module, *arguments):
  environment = os.environ | {'XLA_FLAGS': '', 'PYTHONUNBUFFERED': '1'}
  return subprocess.Popen(
    [sys.executable, '-m', module, *arguments],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(process):
  output = process.communicate(timeout=900)[0]
  assert process.returncode == 0, output
  return output


@pytest.mark.slow
def test_imagenet_is_prepared_trained_killed_resumed_and_evaluated_exactly(imagenet, tmp_path):
  folder, files = imagenet
  data = f'--data_dir={tmp_path}/data'
  output = finish(begin('cmpe_jax.data.prepare', '--dataset=imagenet2012', f'--archives={folder}', '--partial', data))
  assert '12 train, 5 validation' in output
  train = (*SMALL, data.replace('--', '--config.'))
  finish(begin('cmpe_jax.main', *train, f'--workdir={tmp_path}/whole'))
  broken = begin('cmpe_jax.main', *train, f'--workdir={tmp_path}/broken')
  for line in broken.stdout:
    if line.startswith('step  8/12'):  # 4 epochs of 3 steps
      break
  broken.send_signal(signal.SIGKILL)
  broken.communicate(timeout=60)
  assert broken.returncode == -signal.SIGKILL
  assert 'going on from the checkpoint at step' in finish(
    begin('cmpe_jax.main', *train, f'--workdir={tmp_path}/broken')
  )

  (step, want), (its_step, got) = newest_arrays(tmp_path / 'whole'), newest_arrays(tmp_path / 'broken')
  assert step == its_step == 12
  assert want.keys() == got.keys()
  for name, value in want.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)
  found = [json.loads(line) for line in (tmp_path / 'broken' / 'metrics.jsonl').read_text().splitlines()]
  assert {line['eval/count'] for line in found if 'eval/count' in line} == {len(files['validation'])}
  output = finish(begin('cmpe_jax.main', *train, f'--workdir={tmp_path}/broken', '--mode=eval'))
  assert re.search(rf'test images +{len(files["validation"])}\b', output)
