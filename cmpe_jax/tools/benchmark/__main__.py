"""Measures: `python -m cmpe_jax.tools.benchmark step --config=configs/X.py`, or `benchmark input --images=DIR`.

`step` compares the networks of a configuration by gate and form (cmpe_jax/tools/benchmark/step.py), `input` our input
pipeline with tf.data (cmpe_jax/tools/benchmark/input.py).
"""

import sys

from absl import flags

from cmpe_jax import names
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import command, printing

USAGE = (
  'Usage: python -m cmpe_jax.tools.benchmark step --config=configs/X.py, or input --images=DIR; --help after either.'
)


def main(argv: list[str]) -> int:
  """The command; returns the exit code."""
  name = argv[1] if len(argv) > 1 else ''
  if name == 'input':
    return command.run(lambda: measure_input(argv[2:]), argv[:1])
  if name == 'step':
    step_flags()
    return command.run(measure_step, argv[:1] + argv[2:])
  if name in ('--help', '-h'):
    printing.line(__doc__)
    return command.DONE

  def wrong() -> None:
    raise UserError(f'{name!r} is not a benchmark. {USAGE}' if name else f'which benchmark? {USAGE}')

  return command.run(wrong, argv[:1])


def measure_input(argv: list[str]) -> None:
  """`input`."""
  from cmpe_jax.tools.benchmark import input as benchmark

  benchmark.main(argv)


def measure_step() -> None:
  """`step`."""
  from cmpe_jax.tools.benchmark import step

  step.main()


def step_flags() -> None:
  """Defines the flags of `step`: here, so that --help begins with them."""
  command.config_flag()
  flags.DEFINE_list('gates', list(names.GATES), 'Gates to compare.')
  flags.DEFINE_list('forms', list(reversed(names.GATE_FORMS)), 'Forms of each gate.')
  flags.DEFINE_list('modes', ['train', 'infer'], 'train: the whole training step; infer: images to logits.')
  flags.DEFINE_list('orders', None, "pre, post or both: order of activation; default: the configuration's.")
  flags.DEFINE_integer('rounds', 10, 'Rounds in which each program has its turn.', lower_bound=1)
  flags.DEFINE_string('json', None, 'A file that gets the numbers.')
  flags.DEFINE_string('topology', None, 'v5e:2x4, for example: no run, but the cost that this compiler foresees.')
  flags.DEFINE_integer('breakdown', 0, 'With --topology: where the bytes are, so many lines a program.', lower_bound=0)
  flags.DEFINE_string('programs', None, 'With --topology: a folder that gets the compiled programs as text.')


if __name__ == '__main__':
  sys.exit(main(sys.argv))
