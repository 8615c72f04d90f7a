"""`python -m cmpe_jax.tools.check --config=configs/imagenet_cmpe50.py --workdir=gs://BUCKET/RUN`."""

import sys

from absl import flags

from cmpe_jax.runtime import command


def main() -> int:
  """The command."""
  from cmpe_jax.tools.check import command as check

  return check.main()


if __name__ == '__main__':
  command.config_flag()
  flags.DEFINE_string('workdir', None, 'That of the run to come; default: runs/<config name>. Nothing stays there.')
  command.processes_flags()
  sys.exit(command.run(main))
