"""`python -m cmpe_jax.tools.summary --config=configs/digits.py [--config.model.gate=se]`, or `--workdir=DIR`."""

import sys

from absl import flags

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import command


def main() -> None:
  """The command."""
  workdir = flags.FLAGS.workdir
  if workdir and flags.FLAGS.config is not None:
    raise UserError('--config asks how large a network is, --workdir where the time of a run went: give one of them.')
  if workdir:
    from cmpe_jax.tools.summary import timetable

    timetable.main(workdir, flags.FLAGS.json)
  else:
    from cmpe_jax.tools.summary import command as summary

    summary.main()


if __name__ == '__main__':
  command.config_flag()
  flags.DEFINE_string('workdir', None, 'Instead of --config: a run, to see where its time went.')
  flags.DEFINE_string('json', None, 'A file that gets the numbers too.')
  sys.exit(command.run(main))
