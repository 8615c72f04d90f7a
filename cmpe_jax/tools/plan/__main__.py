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
  flags.DEFINE_string(
    'topology', 'v5e:4x4', 'A slice (v5e:4x4, v5p, v6e), a chip and how many (h100:8, a100, h200, b200), or cpu:8.'
  )
  flags.DEFINE_float('share', None, 'Of the bounds that the run is assumed to reach, such as 0.4.')
  flags.DEFINE_float('price', None, 'Of a chip-hour, for the cost of the whole run.')
  flags.DEFINE_float(
    'images_per_core', None, 'That a CPU core reads in a second; default: as measured in docs/speed.md.'
  )
  flags.DEFINE_string('json', None, 'A file that gets the numbers too.')
  sys.exit(command.run(main))
