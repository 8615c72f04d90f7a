"""`python -m cmpe_jax.tools.summary --config=configs/digits.py [--config.model.gate=se]`."""

import sys

from absl import flags

from cmpe_jax.runtime import command


def main() -> None:
  """The command."""
  from cmpe_jax.tools.summary import command as summary

  summary.main()


if __name__ == '__main__':
  command.config_flag()
  flags.DEFINE_string('json', None, 'A file that gets the numbers too.')
  sys.exit(command.run(main))
