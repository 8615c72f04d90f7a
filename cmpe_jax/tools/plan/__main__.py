"""`python -m cmpe_jax.tools.plan --config=configs/imagenet_cmpe50.py --topology=v5e:4x4`."""

import sys

from absl import flags

from cmpe_jax.runtime import command


def main() -> None:
  """The command."""
  from cmpe_jax.tools.plan import command as plan

  plan.main()


if __name__ == '__main__':
  command.config_flag()
  flags.DEFINE_string('topology', 'v5e:4x4', 'v5e, v5p or v6e and the chips of the slice; or cpu:8.')
  flags.DEFINE_string('json', None, 'A file that gets the numbers too.')
  sys.exit(command.run(main))
