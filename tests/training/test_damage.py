"""Damaged checkpoints: no file of one can change without being noticed, and none ends in a traceback."""

import collections
import contextlib
import random
import shutil
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import newest_arrays, run_module

import cmpe_jax
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training import checksums
from cmpe_jax.training.checkpoint import Checkpoints
from cmpe_jax.training.saved import Damaged

CONFIG = """
from cmpe_jax import config as configuration

def get_config():
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'se'})
  config.update({'batch_size': 128, 'epochs': 0.5, 'validation': 0.1, 'ema_decay': 0.9, 'log_every_steps': 2,
                 'eval_every_steps': 2, 'checkpoint_every_steps': 2, 'keep_checkpoints': 3})
  return config
"""
STEPS = (2, 4, 6)  # half of 1290 images in batches of 128: 5.04, and the last


def make():
  space = {}
  exec(CONFIG, space)
  return space['get_config']()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run with three checkpoints."""
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  cmpe_jax.train(make(), str(workdir))
  with contextlib.closing(Checkpoints(str(workdir))) as found:
    assert tuple(found.steps()) == STEPS
  return workdir


@pytest.fixture
def copy(whole, tmp_path):
  return shutil.copytree(whole, tmp_path / 'run')


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def largest(place):
  return max((path for path in place.rglob('*') if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path, at, bit=0):
  data = bytearray(path.read_bytes())
  data[at] ^= 1 << bit
  path.write_bytes(data)


def flip_an_array(place):
  """A bit in the middle of some array's data."""
  path = largest(place)
  flip(path, path.stat().st_size // 2, 3)


def flip_many(place):
  """Bits of arrays of all kinds."""
  path = largest(place)
  for i in range(1, 200):
    flip(path, path.stat().st_size * i // 200)


def damage(path, kind, draw):
  """What disks and hands do to a file."""
  size = path.stat().st_size
  if kind == 'removed':
    path.unlink()
  elif kind == 'cut':
    path.write_bytes(path.read_bytes()[: draw.randrange(size)])
  else:
    flip(path, draw.randrange(size), draw.randrange(8))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'int32'])
def test_the_checksum_is_zlibs_of_the_bytes_wherever_they_lie(dtype):
  values = np.arange(12).reshape(3, 4).astype(dtype)
  want = f'{dtype}[3, 4] {zlib.crc32(values.tobytes()):08x}'
  assert checksums.of_array(values) == checksums.of_array(np.asfortranarray(values)) == want
  for devices in (1, 8):
    assert checksums.of_array(meshes.replicate(values, meshes.make(jax.devices()[:devices]))) == want
  assert checksums.of_array(values.T) != want
  assert checksums.of_array(jnp.float32(3)) == f'float32[] {zlib.crc32(np.float32(3).tobytes()):08x}'


def test_a_flipped_bit_of_an_array_is_named_by_everything_that_reads_it(copy):
  flip_an_array(copy / 'checkpoints' / '6')
  with contextlib.closing(Checkpoints(str(copy))) as found:
    with pytest.raises(Damaged, match=r'checkpoints/6 is damaged \(.* such as .*/kernel\)'):
      found.arrays(6)
    found.arrays(4)


@pytest.mark.parametrize('part', ['params', 'ema'])
def test_a_changed_value_is_found_in_the_part_that_is_read_and_there_only(copy, part, monkeypatch):
  """Each array is checked by what it holds: the other part's is not even looked at."""
  with contextlib.closing(Checkpoints(str(copy))) as found:
    record = found._record(6)
    name = next(name for name in record['arrays'] if name.startswith(f'{part}/') and name.endswith('kernel'))
    record['arrays'][name] = record['arrays'][name][:-8] + '00000000'
    with pytest.raises(Damaged, match=name):
      found.variables(6, averaged=part == 'ema')
    found.variables(6, averaged=part != 'ema')


def sample(whole, work, count, seed):
  """Damages `count` files of the best checkpoint, one at a time; how often each kind was noticed, or did no harm."""
  _, variables, config = cmpe_jax.load_model(str(whole))
  with contextlib.closing(Checkpoints(str(whole))) as found:
    best = found.choose('best')
    arrays = found.arrays(best)
  print(f'the damages follow from seed {seed}')  # pytest shows it when the test fails
  draw, seen = random.Random(seed), collections.Counter()
  files = sorted(path for path in (whole / 'checkpoints' / str(best)).rglob('*') if path.is_file())
  for _ in range(count):
    path, kind = draw.choice(files), draw.choice(('flipped', 'cut', 'removed'))
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(whole, work)
    damage(work / path.relative_to(whole), kind, draw)
    try:
      _, its_variables, its_config = cmpe_jax.load_model(str(work))
      equal(variables, its_variables)
      assert its_config.to_dict() == config.to_dict()
      with contextlib.closing(Checkpoints(str(work))) as found:
        assert found.choose('best') == best
        equal(arrays, found.arrays(best))
      seen[kind, 'no harm'] += 1
    except Damaged as error:
      seen[kind, 'noticed'] += 1
      told = str(error)
    else:
      told = ''
    assert not told or f'checkpoints/{best} is damaged' in told
    assert '\n' not in told
  return seen


def test_no_damage_loads_other_values_or_ends_in_a_traceback(whole, tmp_path, capfd):
  seen = sample(whole, tmp_path / 'run', 12, seed=3)
  assert {outcome for _, outcome in seen} == {'noticed', 'no harm'}
  assert 'Traceback' not in capfd.readouterr().err


@pytest.mark.slow
def test_no_damage_of_300_loads_other_values_or_ends_in_a_traceback(whole, tmp_path, capfd):
  seen = sample(whole, tmp_path / 'run', 300, seed=random.randrange(10**9))
  told = capfd.readouterr()
  with capfd.disabled():
    print(dict(seen))
  assert sum(seen.values()) == 300
  assert 'Traceback' not in told.err


DAMAGES = {
  'arrays': flip_many,
  'outline': lambda place: flip(place / '_CHECKPOINT_METADATA', 0),
  'no tree': lambda place: (place / 'state' / '_METADATA').unlink(),
  'tree': lambda place: flip(place / 'state' / '_METADATA', 5000),
  'index': lambda place: flip(place / 'state' / 'manifest.ocdbt', 40),
  'config': lambda place: flip(
    place / 'config' / 'metadata', place.joinpath('config/metadata').read_text().index('128')
  ),
  'sums': lambda place: flip(place / 'checksums' / 'metadata', 300),
  'no sums': lambda place: (place / 'checksums' / 'metadata').unlink(),
}


@pytest.mark.parametrize(
  'kind', [name if name in ('arrays', 'config') else pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES]
)
def test_training_goes_on_from_the_newest_intact_checkpoint(whole, copy, kind, capsys):
  DAMAGES[kind](copy / 'checkpoints' / '6')
  before = newest_arrays(whole)
  values = cmpe_jax.train(make(), str(copy))
  out = capsys.readouterr().out
  place = copy / 'checkpoints'
  assert f'{place}/6 is damaged (' in out
  assert f'it lies in {place}/damaged/6 now' in out
  assert 'going on from the checkpoint at step 4' in out
  assert sorted(path.name for path in (place / 'damaged').iterdir()) == ['6']
  step, arrays = newest_arrays(copy)
  assert (step, arrays.keys()) == (6, before[1].keys())
  equal(before[1], arrays)
  assert cmpe_jax.train(make(), str(copy)) == values
  assert 'damaged' not in capsys.readouterr().out


def test_nothing_is_moved_where_nothing_is_intact(copy):
  for step in STEPS:
    flip_an_array(copy / 'checkpoints' / str(step))
  with pytest.raises(Damaged, match=r'checkpoints/6 is damaged \(.*no other checkpoint is intact\)'):
    cmpe_jax.train(make(), str(copy))
  assert not (copy / 'checkpoints' / 'damaged').exists()


def test_a_damaged_score_is_named_and_mended_by_training(copy):
  path = copy / 'checkpoints' / '2' / 'metrics' / 'metrics'
  text = path.read_text()
  path.write_text(text.replace('0.', '9.'))
  with pytest.raises(Damaged, match='checkpoints/2 is damaged .*metrics'):
    cmpe_jax.load_model(str(copy))
  path.write_text('{')
  Checkpoints(str(copy), 3, scored=True).close()
  assert path.read_text() == text
  cmpe_jax.load_model(str(copy))


@pytest.mark.slow
@pytest.mark.parametrize('kind', DAMAGES)
def test_commands_name_it(copy, tmp_path, kind):
  (tmp_path / 'small.py').write_text(CONFIG)
  for step in STEPS:
    DAMAGES[kind](copy / 'checkpoints' / str(step))
  flags = [f'--config={tmp_path}/small.py', f'--workdir={copy}']
  for module, arguments in (
    ('main', [*flags, '--mode=eval']),
    ('main', flags),
    ('tools.export', [flags[1], f'--output={tmp_path}/exported']),
  ):
    done = run_module(f'cmpe_jax.{module}', *arguments)
    assert (done.returncode, 'Traceback' in done.stderr) == (2, False), done.stderr
    assert 'is damaged (' in done.stderr.splitlines()[-1]
