"""The side-by-side measurement of the input pipeline."""

import json
import re
import time

import numpy as np
import pytest
from PIL import Image

from cmpe_jax.errors import UserError
from cmpe_jax.tools.benchmark import input


def spin(seconds: float) -> None:
  end = time.process_time() + seconds
  while time.process_time() < end:
    pass


def test_rates_are_per_cpu_second():
  """A way that needs 2 ms of CPU an image gives 500 images a CPU-second; sleeping counts only for images a second."""
  ways = {'slow': lambda count: (spin(0.004 * count), time.sleep(0.2)), 'reference': lambda count: spin(0.002 * count)}
  rates = input.measure(ways, count=20, rounds=3)
  assert rates['slow'].shape == (3, 2)
  np.testing.assert_allclose(np.median(rates['slow'][:, 0]), 250, rtol=0.1)
  np.testing.assert_allclose(np.median(rates['reference'][:, 0]), 500, rtol=0.1)
  assert (rates['slow'][:, 1] < 20 / 0.2).all()


def test_whole_command(tmp_path, capsys):
  for number in range(6):
    noise = np.random.default_rng(number).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f'{number}.jpg')
  options = ['--image_size=32', '--batch_size=4', '--count=8', '--rounds=1', '--shorter_side=64']
  options.append(f'--json={tmp_path}/rates.json')
  input.main([f'--images={tmp_path}', *options])
  printed = capsys.readouterr().out
  assert printed.startswith('6 photos, ')
  rows = re.findall(r'^(ours|tf\.data\S*).* (\d+) +(\d+) +(\d+\.\d+)  \(', printed, re.MULTILINE)
  assert [row[0] for row in rows] == ['ours', 'tf.data,'] * 2
  assert all(float(number) > 0 for row in rows for number in row[1:])
  found = json.loads((tmp_path / 'rates.json').read_text())
  assert found['about']['photos'] == 6
  assert list(found['sources']) == ['untouched originals', 'stored at shorter side 64']
  for row, way in zip(rows, [way for ways in found['sources'].values() for way in ways.values()], strict=True):
    assert [float(number) for number in row[1:3]] == pytest.approx(
      [way['images_per_cpu_second'][0], way['images_per_second'][0]], abs=0.6
    )
  assert 'untouched originals' in printed
  assert 'stored at shorter side 64' in printed


def test_a_round_is_whole_batches(tmp_path):
  with pytest.raises(UserError, match='--count=9 is less than one batch: give at least --batch_size=64'):
    input.main([f'--images={tmp_path}', '--count=9'])


@pytest.mark.parametrize('flag', ['--batch_size', '--rounds', '--image_size', '--count'])
def test_what_is_counted_is_at_least_one(flag, tmp_path, capsys):
  with pytest.raises(SystemExit) as ended:
    input.main([f'--images={tmp_path}', f'{flag}=0'])
  assert ended.value.code == 2
  assert f'argument {flag}: 0 is not at least 1' in capsys.readouterr().err


def test_copies_have_a_size(tmp_path):
  with pytest.raises(UserError, match='--shorter_side=-1 is out of range: it must be at least 0'):
    input.main([f'--images={tmp_path}', '--shorter_side=-1'])


def test_no_photos(tmp_path):
  with pytest.raises(UserError, match='no .jpg'):
    input.main([f'--images={tmp_path}'])
