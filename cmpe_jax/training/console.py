"""What a run tells people, in words; the loop only says what happened."""

import sys
from collections.abc import Callable
from typing import TextIO

import jax

from cmpe_jax.runtime.printing import say, table
from cmpe_jax.training import curves, optimizer, state
from cmpe_jax.training.run import Run
from cmpe_jax.training.writer import FILE

Values = dict[str, float]


class Console:
  """The lines of a training run or an evaluation, in the first process.

  A program that wants to follow a run gives `on_step`, which is called as on_step(steps done, steps in all) whenever
  metrics are logged.
  """

  def __init__(self, stream: TextIO | None = None, on_step: Callable[[int, int], None] | None = None):
    """`stream`: where the lines go; default: stdout."""
    self._stream, self._on_step = stream, on_step

  def say(self, text: str) -> None:
    """A line, at once."""
    say(text, self._stream or sys.stdout)

  def begins(self, run: Run, variables: dict) -> None:
    """What is trained on what."""
    config, params = run.config, variables['params']
    held = 'by accuracy on the validation part'
    devices = f'{run.mesh.devices.size} x {run.mesh.devices.flat[0].device_kind}'
    if jax.process_count() > 1:
      devices += f' of {jax.process_count()} processes'
    rows = {
      'dataset': f'{config.dataset}: {run.num_examples:,} images to train on, {run.dataset.num_classes} classes',
      'network': (
        f'{config.model.backbone} {config.model.depth}, gate {config.model.gate}, {state.count(params):,} parameters'
      ),
      'steps': f'{run.schedule.total:,} of {config.batch_size} images ({config.epochs:g} epochs)',
      'images': sizes(run),
      'devices': devices,
      'best checkpoint': held if config.validation else 'the newest (validation=0: nothing held out)',
    }
    self.say(table(rows) + '\n\n' + optimizer.table(config, params) + '\n')

  def logged(self, step: int, total: int, epoch: float, values: Values, left: str) -> None:
    """A log point: `values` as they are written, and the forecast."""
    self.say(
      f'step {step:>{len(str(total))}}/{total}  epoch {epoch:6.2f}  loss {values["train/loss"]:.4f}  '
      f'accuracy {values["train/accuracy"]:7.2%}  lr {values["train/learning_rate"]:.3g}  '
      f'{values["train/images_per_second"]:.0f} images/s  waiting for data {values["train/data_wait"]:.0%}  ETA {left}'
    )
    if self._on_step:
      self._on_step(step, total)

  def evaluated(self, step: int, total: int, split: str, values: Values) -> None:
    """An evaluation, and a second line for the moving averages if there are any."""
    for group, note in (('eval', ''), ('eval_ema', '  (moving averages)')):
      if f'{group}/loss' in values:
        self.say(
          f'step {step:>{len(str(total))}}/{total}  {split}: accuracy {values[f"{group}/accuracy"]:7.2%}  '
          f'top-5 {values[f"{group}/top5"]:7.2%}  loss {values[f"{group}/loss"]:.4f}{note}'
        )

  def trained(self, values: Values, seconds: float, checkpoint: str, workdir: str) -> None:
    """The end of a training run."""
    rows = results(values) | {'time': f'{seconds:.0f} s', 'checkpoint': checkpoint}
    rows |= {'curves': f'tensorboard --logdir {workdir}/{curves.FOLDER}', 'numbers': f'{workdir}/{FILE}'}
    self.say('\n' + table(rows))

  def tested(self, values: Values, seconds: float, checkpoint: str) -> None:
    """The end of an evaluation."""
    self.say(table({'checkpoint': checkpoint} | results(values) | {'time': f'{seconds:.1f} s'}))


def sizes(run: Run) -> str:
  """Of the images: '224x224', or '160x160 (15,015 steps), 192x192 (5,005 steps); 256x256 in evaluations'."""
  evaluated = f'{run.dataset.image_size}x{run.dataset.image_size}'
  if not run.config.train_image_sizes:
    return evaluated
  trained = [f'{side}x{side} ({steps:,} steps)' for side, steps in run.schedule.steps_by_side().items()]
  return f'{", ".join(trained)}; {evaluated} in evaluations'


def results(values: Values) -> dict[str, str]:
  """Figures as rows of a table: {'eval/accuracy': 0.9861} gives {'test accuracy': '98.61%'}."""
  rows = {}
  for name, value in values.items():
    group, _, what = name.partition('/')
    percent = what in ('accuracy', 'top5')
    text = f'{value:.2%}' if percent else f'{value:,}' if what == 'count' else f'{value:.4f}'
    label = {'top5': 'top-5 accuracy', 'count': 'images'}.get(what, what)
    rows[f'test {label}' + (' (moving averages)' if group == 'eval_ema' else '')] = text
  return rows
