"""The whole loop on the digits, with a small net on eight fake devices."""

import contextlib
import json
import re

import jax
import numpy as np
import pytest
import scipy.special
from harness import newest_arrays

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax.data import augment
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training import checkpoint, evaluate
from cmpe_jax.training.evaluate import Evaluator
from cmpe_jax.training.run import assemble
from cmpe_jax.training.train import train


def make(**keys):
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'none'})
  config.update({'batch_size': 128, 'epochs': 2.0, 'log_every_steps': 4, **keys})
  return config


def lines(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def test_a_run_with_everything_on(tmp_path, capsys):
  config = make(
    validation=0.1,
    ema_decay=0.9,
    steps_per_call=3,
    label_smoothing=0.1,
    mixup_alpha=0.5,
    warmup_epochs=0.1,
    epochs=0.5,
    batch_size=64,
    checkpoint_every_steps=4,
    eval_every_steps=100,
    log_every_steps=1,
  )
  values = train(config, str(tmp_path), profile=(2, 3))
  output = capsys.readouterr().out
  total = 11  # half of 1433 - 143 = 1290 images in batches of 64: 10.1
  assert re.search(rf'step {total}/{total}  epoch +0.5\d  loss \d', output)
  assert 'weight decay' in output
  written = lines(tmp_path)
  logged = [line['step'] for line in written if 'train/loss' in line]
  assert logged == list(range(1, total + 1))
  speeds = [line['train/images_per_second'] for line in written if 'train/loss' in line]
  assert speeds[0] == speeds[1] == speeds[2]  # of one call, whose steps end at once
  assert len(set(speeds)) == total - 2  # the others are calls of one step, because an evaluation or the end is near
  for line in written:
    if 'train/loss' in line:
      assert set(line) == {
        'step',
        'train/loss',
        'train/accuracy',
        'train/learning_rate',
        'train/images_per_second',
        'train/data_wait',
      }
  evaluated = [line for line in written if 'eval/loss' in line]
  assert [line['step'] for line in evaluated] == [4, 8, 11]
  assert set(evaluated[0]) == {'step'} | {
    f'{group}/{name}' for group in ('eval', 'eval_ema') for name in ('loss', 'accuracy', 'top5', 'count')
  }
  assert evaluated[0]['eval/count'] == evaluated[0]['eval_ema/count'] == 143
  assert values['test/count'] == 364
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))

  best = max(evaluated, key=lambda line: (line['eval_ema/accuracy'], line['step']))['step']
  assert f'checkpoints/{best}' in output
  _, variables, _ = cmpe_jax.load_model(str(tmp_path))
  kept = checkpoint.Checkpoints(str(tmp_path))
  jax.tree.map(np.testing.assert_array_equal, variables, kept.variables(best, averaged=True))
  kept.close()
  again = evaluate.evaluate(config, str(tmp_path), 'best')
  assert again['eval_ema/accuracy'] == values['test/accuracy']

  capsys.readouterr()
  assert train(config, str(tmp_path)) == values
  assert 'nothing left to do' in capsys.readouterr().out
  config.epochs = 0.3  # fewer than are done: still the figures of the checkpoint that is there
  assert train(config, str(tmp_path)) == values
  assert lines(tmp_path) == written


@pytest.mark.parametrize(
  ('keys', 'named'),
  [
    ({'batch_size': 100}, r'batch_size=100 .* 8 devices: set it to 96 or 104'),
    ({'batch_size': 64, 'accumulate_steps': 3}, r'batch_size=64 .*accumulate_steps=3'),
    ({'dataset': 'cifar10', 'data_dir': 'nowhere'}, 'cmpe_jax.data.prepare --dataset=cifar10'),
    ({'dataset': 'mnist'}, 'mnist'),
    ({'epochs': -1.0}, 'epochs'),
    ({'epochs': float('inf')}, 'epochs=inf is out of range'),
    ({'warmup_epochs': float('inf')}, 'warmup_epochs=inf leaves nothing'),
    ({'learning_rate': float('nan')}, 'learning_rate'),
  ],
)
def test_wrong_inputs_are_named_before_anything_is_compiled(keys, named, tmp_path):
  with pytest.raises(UserError, match=named):
    train(make(**keys), str(tmp_path))
  assert not (tmp_path / 'checkpoints').exists()


def test_a_loss_that_is_not_finite_stops_with_step_and_examples_and_keeps_the_last_good_checkpoint(tmp_path):
  config = make(epochs=1.0, learning_rate=1e30, warmup_epochs=0.0, eval_every_steps=100, checkpoint_every_steps=1)
  with pytest.raises(UserError) as caught:
    train(config, str(tmp_path))
  text = str(caught.value)
  found = int(re.search(r'at step (\d+)', text)[1])
  examples = json.loads(re.search(r'examples (\[.*?\])', text)[1])
  assert len(examples) == 128
  assert 'learning_rate=1e+30' in text
  kept = checkpoint.Checkpoints(str(tmp_path))
  assert kept.choose('newest') == found - 1
  kept.close()


@pytest.mark.parametrize('validation', [0.0, 0.1])
def test_an_evaluation_that_fails_costs_no_steps_where_its_score_does_not_decide(tmp_path, validation, monkeypatch):
  every = {'checkpoint_every_steps': 4, 'eval_every_steps': 4, 'ema_decay': 0.9, 'validation': validation}
  config = make(epochs=0.6, **every)  # 1433 images, or 1290, in batches of 128: 7 steps
  train(config, str(tmp_path / 'whole'))
  evaluate_all, count = Evaluator.__call__, iter(range(100))

  def fails(self, variables):
    if next(count) in (0, 3):  # at step 4, then in the second half of step 7: that of the moving averages
      raise UserError('3.png is not a readable image')
    return evaluate_all(self, variables)

  monkeypatch.setattr(Evaluator, '__call__', fails)
  for done in (4, 7) if validation == 0 else (None, 4):
    with pytest.raises(UserError, match='3.png'):
      train(config, str(tmp_path / 'broken'))
    kept = checkpoint.Checkpoints(str(tmp_path / 'broken'))
    assert max(kept.steps(), default=None) == done
    kept.close()
  train(config, str(tmp_path / 'broken'))
  timed = ('train/images_per_second', 'train/data_wait')
  whole, broken = (
    [{name: value for name, value in line.items() if name not in timed} for line in lines(tmp_path / name)]
    for name in ('whole', 'broken')
  )
  assert broken == whole
  arrays = [newest_arrays(tmp_path / name)[1] for name in ('whole', 'broken')]
  jax.tree.map(np.testing.assert_array_equal, *arrays)


@pytest.mark.parametrize('devices', [1, 2, 8])
def test_evaluation_is_exact_for_any_batch_size_and_devices(devices):
  run = assemble(make(), jax.devices()[:devices])
  model, variables = run.model, run.variables()
  source = run.open('test')
  batch = source.materialize(source.resident, np.arange(364))
  logits = np.asarray(model.apply(variables, augment.evaluate(batch, run.dataset, np.float32), train=False))
  labels = np.asarray(batch['label'])
  want = {
    'loss': float((scipy.special.logsumexp(logits, axis=1) - logits[np.arange(364), labels]).mean()),
    'accuracy': float((logits.argmax(1) == labels).mean()),
    'top5': float((np.argsort(-logits)[:, :5] == labels[:, None]).any(1).mean()),
    'count': 364,
  }
  for size in (7, 64, 128, 10_000):
    run.config.eval_batch_size = size
    with contextlib.closing(Evaluator(run, 'test')) as evaluator:
      result = evaluator(meshes.replicate(variables, run.mesh))
    assert result.pop('loss') == pytest.approx(want['loss'], rel=1e-5)
    assert result == {name: want[name] for name in ('accuracy', 'top5', 'count')}
