"""Runs whose images grow on the way: the same bits whatever interrupts them, and one compilation a size."""

import signal

import numpy as np
import pytest
from harness import begin, free_address, newest_arrays, untimed
from PIL import Image

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax.errors import UserError
from cmpe_jax.tools.summary import times
from cmpe_jax.training import starts, step
from cmpe_jax.training.console import Console

CONFIG = """
from cmpe_jax import config as configuration

def get_config():
  config = configuration.base()
  config.model.update({{'block': 'basic', 'depth': 8, 'gate': 'pair_1x1'}})
  config.update({{'dataset': 'folder:{folder}', 'augmentation': 'random_resized', 'image_size': 24,
                 'train_image_sizes': (12, 16), 'train_size_fractions': (0.5,), 'eval_flip': True,
                 'batch_size': 8, 'epochs': 3.0, 'ema_decay': 0.9, 'log_every_steps': 1, 'eval_every_steps': 4,
                 'checkpoint_every_steps': 4}})
  return config
"""


@pytest.fixture
def folder(tmp_path):
  """32 training and 8 test photos of two classes, of sizes around 40 pixels."""
  random = np.random.default_rng(0)
  for split, count in (('train', 16), ('test', 4)):
    for channel, name in enumerate(('red', 'green')):
      place = tmp_path / 'images' / split / name
      place.mkdir(parents=True)
      for number in range(count):
        pixels = random.integers(0, 200, (36 + number, 44, 3), np.uint8)
        pixels[..., channel] += 50
        Image.fromarray(pixels).save(place / f'{number}.png')
  return tmp_path / 'images'


def make(folder, **keys):
  space = {}
  exec(CONFIG.format(folder=folder), space)
  config = space['get_config']()
  config.update(keys)
  return config


def same(one, other, steps):
  """Both runs' arrays and lines, bit for bit."""
  (step, want), (its_step, got) = newest_arrays(one), newest_arrays(other)
  assert step == its_step == steps
  assert want.keys() == got.keys()
  assert len(want) > 100
  for name, value in want.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)
  assert untimed(other) == untimed(one)
  assert [line['step'] for line in untimed(one) if 'train/loss' in line] == list(range(1, steps + 1))
  assert [line['eval/count'] for line in untimed(one) if 'eval/count' in line] == [8, 8, 8]


@pytest.fixture
def compiled(monkeypatch):
  """How many programs a run compiles, by name, since it was asked the last time."""
  counts = {}
  for name in ('train', 'eval'):
    original = getattr(step, f'compile_{name}')

    def compile_step(*arguments, name=name, original=original):
      counts[name] = 0
      return Counted(original(*arguments), counts, name)

    monkeypatch.setattr(step, f'compile_{name}', compile_step)

  def programs():
    found = dict(counts)
    counts.clear()
    return found

  return programs


class Counted:
  """A jitted function that counts the shapes it is lowered for; called otherwise it would compile unseen."""

  def __init__(self, call, counts, name):
    self._call, self._counts, self._name = call, counts, name

  def lower(self, *given):
    self._counts[self._name] += 1
    return self._call.lower(*given)


class Stopped(Exception):
  """Nobody catches it, and nothing is saved on its account."""


def stop_at(last):
  def follow(done, total):
    if done == last:
      raise Stopped

  return Console(on_step=follow)


def test_stopped_at_each_size_and_at_the_change_it_ends_with_the_same_bits_from_three_compilations(
  folder, tmp_path, compiled, capsys
):
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  cmpe_jax.train(make(folder), str(whole))
  assert compiled() == {'train': 2, 'eval': 1}
  assert '12x12 (6 steps), 16x16 (6 steps); 24x24 in evaluations' in capsys.readouterr().out
  # What step 1 says is read while step 4 is computed; step 5's, once the images have grown (step 8); step 9's, last.
  for last, programs in ((1, {'train': 1, 'eval': 0}), (5, {'train': 2, 'eval': 1}), (9, {'train': 2, 'eval': 1})):
    with pytest.raises(Stopped):
      cmpe_jax.train(make(folder), str(broken), console=stop_at(last))
    assert compiled() == programs
  cmpe_jax.train(make(folder), str(broken))
  assert compiled() == {'train': 1, 'eval': 1}
  same(whole, broken, 12)

  account = times.of_records(starts.read(str(broken)))
  assert [(start.first, start.done, start.lost, start.ended) for start in account.starts] == [
    (0, 1, 1, 'failed'),
    (0, 5, 1, 'failed'),
    (4, 9, 1, 'failed'),
    (8, 12, 0, 'done'),
  ]
  assert [start.compilations for start in account.starts] == [1, 3, 3, 2]


def command(folder, workdir, *arguments):
  config = workdir.parent / 'growing.py'
  config.write_text(CONFIG.format(folder=folder))
  return ['-m', 'cmpe_jax.main', f'--config={config}', f'--workdir={workdir}', *arguments]


def kill_after(place, times, *arguments):
  """Kills the command when it has said a line that begins with `place` so many times."""
  process, said = begin(command(*arguments)), []
  for line in process.stdout:
    said.append(line)
    times -= line.startswith(place)
    if not times:
      break
  process.send_signal(signal.SIGKILL)
  process.communicate(timeout=100)
  assert process.returncode == -signal.SIGKILL, ''.join(said)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('keys', 'compilations'),  # at the first size, in all
  [('', (1, 2)), ('--config.input_processes=2', (1, 2)), ('--config.steps_per_call=8', (2, 4))],
)
def test_killed_at_each_size_and_at_the_change_it_ends_with_the_same_bits(folder, tmp_path, keys, compilations):
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  arguments = ('--config.epochs=6.0', '--config.eval_every_steps=8', '--config.checkpoint_every_steps=8', *keys.split())
  finished = begin(command(folder, whole, *arguments))
  output = finished.communicate(timeout=300)[0]
  assert finished.returncode == 0, output
  assert '12x12 (12 steps), 16x16 (12 steps)' in output
  assert output.count('compiling ...') == compilations[1]
  kill_after('step  2/24', 1, folder, broken, *arguments)
  kill_after('compiling ...', compilations[0] + 1, folder, broken, *arguments)  # the first call of the second size
  kill_after('step 17/24', 1, folder, broken, *arguments)
  rest = begin(command(folder, broken, *arguments))
  output = rest.communicate(timeout=300)[0]
  assert rest.returncode == 0, output
  assert 'going on from the checkpoint at step 16' in output
  same(whole, broken, 24)


@pytest.mark.slow
def test_two_processes_change_the_size_at_the_same_step_as_one(folder, tmp_path):
  flags = ('--config.dtype=float64', '--config.mixup_alpha=0.5')
  alone = begin(command(folder, tmp_path / 'one', *flags), devices=8)
  output = alone.communicate(timeout=500)[0]
  assert alone.returncode == 0, output
  flags = (*flags, f'--coordinator_address={free_address()}', '--num_processes=2')
  pair = [begin(command(folder, tmp_path / 'two', *flags, f'--process_id={process}'), devices=4) for process in (0, 1)]
  outputs = [process.communicate(timeout=500)[0] for process in pair]
  assert [process.returncode for process in pair] == [0, 0], outputs
  (account,) = starts.read(str(tmp_path / 'two'))  # the first process keeps it
  assert (account['done'], account['ended'], account['facts']['processes']) == (12, 'done', 2)
  losses = [
    [line['train/loss'] for line in untimed(tmp_path / name) if 'train/loss' in line] for name in ('one', 'two')
  ]
  assert len(losses[0]) == 12
  np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
  ('keys', 'said'),
  [
    ({'train_image_sizes': (16, 0)}, r'train_image_sizes=\(16, 0\) are not sides in pixels'),
    ({'train_image_sizes': (16.5,)}, r'\(16.5,\) are not sides'),
    ({'train_image_sizes': (16, 24)}, r'train_size_fractions=\(\) must be one number for each change'),
    ({'train_image_sizes': (16, 24), 'train_size_fractions': (1.0,)}, r'\(1.0,\) must be .* between 0 and 1'),
    ({'train_image_sizes': (8, 16, 24), 'train_size_fractions': (0.5, 0.5)}, r'\(0.5, 0.5\) must be .* rising'),
    ({'train_image_sizes': (8, 16), 'train_size_fractions': ('half',)}, r"\('half',\) must be one number"),
    ({'train_size_fractions': (0.5,)}, r'\(0.5,\) must be one number'),
    ({'train_image_sizes': (8,)}, r"crops, and dataset='digits' has augmentation='crop'. Set it to \(\)"),
  ],
)
def test_sizes_that_cannot_be_are_named(keys, said, tmp_path):
  config = configuration.base()
  config.update(keys)
  with pytest.raises(UserError, match=said):
    cmpe_jax.train(config, str(tmp_path / 'run'))
