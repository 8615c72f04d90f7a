"""What a run says."""

import io

from cmpe_jax.training.console import Console


def test_the_progress_line_has_what_people_ask_for_and_a_program_is_told_the_step(capsys):
  values = {
    'train/loss': 0.5,
    'train/accuracy': 0.875,
    'train/learning_rate': 0.01,
    'train/images_per_second': 1234.4,
    'train/data_wait': 0.031,
  }
  seen = []
  Console(on_step=lambda *step: seen.append(step)).logged(50, 1000, 2.5, values, '0:01:40')
  line = capsys.readouterr().out
  assert seen == [(50, 1000)]
  for part in ('50/1000', '2.50', '0.5000', '87.50%', '0.01', '1234 images/s', '3%', '0:01:40'):
    assert part in line


def test_an_evaluation_is_a_line_in_the_same_columns_and_moving_averages_are_another():
  values = {'eval/loss': 0.25, 'eval/accuracy': 0.915, 'eval/top5': 1.0, 'eval/count': 364}
  log = io.StringIO()
  Console(log).evaluated(50, 1000, 'test', values)
  line = 'step   50/1000  test: accuracy  91.50%  top-5 100.00%  loss 0.2500\n'
  assert log.getvalue() == line
  averaged = {f'eval_ema/{name.partition("/")[2]}': value for name, value in values.items()}
  Console(log).evaluated(50, 1000, 'test', values | averaged)
  assert log.getvalue() == line + line + f'{line.rstrip()}  (moving averages)\n'
