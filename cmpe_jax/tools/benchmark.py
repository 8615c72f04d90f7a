"""Measures: `python -m cmpe_jax.tools.benchmark step --config=configs/X.py`, or `benchmark input --images=DIR`.

`step` compares the networks of a configuration by gate and form (cmpe_jax/tools/benchmark_step.py), `input` our input
pipeline with tf.data (cmpe_jax/tools/benchmark_input.py).
"""

import sys

from cmpe_jax import command
from cmpe_jax.errors import UserError

USAGE = (
  'Usage: python -m cmpe_jax.tools.benchmark step --config=configs/X.py, or input --images=DIR; --help after either.'
)


def main(argv: list[str]) -> int:
  """The command; returns the exit code."""
  name = argv[1] if len(argv) > 1 else ''
  if name == 'input':
    from cmpe_jax.tools import benchmark_input

    return command.run(lambda: benchmark_input.main(argv[2:]), argv[:1])
  if name == 'step':
    from cmpe_jax.tools import benchmark_step

    benchmark_step.define_flags()
    return command.run(benchmark_step.main, argv[:1] + argv[2:])
  if name in ('--help', '-h'):
    print(__doc__)
    return command.DONE

  def wrong() -> None:
    raise UserError(f'{name!r} is not a benchmark. {USAGE}' if name else f'which benchmark? {USAGE}')

  return command.run(wrong, argv[:1])


if __name__ == '__main__':
  sys.exit(main(sys.argv))
