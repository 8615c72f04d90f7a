"""`python -m cmpe_jax.tools.compare --config=configs/digits.py --gates=none,se,pair_1x1 --seeds=5 --workdir=runs/x`.

Trains every cell in its own folder and writes a table, CSV, JSON and an HTML report. Interrupted, the same command goes
on. With --sweep it compares what the configuration's get_sweep() lists instead of gates.
"""

import sys

from absl import flags

from cmpe_jax import names
from cmpe_jax.runtime import command


def main() -> None:
  """The command."""
  from cmpe_jax.tools.compare import command as compare

  compare.main()


if __name__ == '__main__':
  command.config_flag()
  flags.DEFINE_list('gates', list(names.GATES), 'The gates to compare.')
  flags.DEFINE_integer('seeds', 5, 'Runs of each, with the seeds config.seed, config.seed + 1, ...')
  flags.DEFINE_bool('sweep', False, "Compare what the configuration's get_sweep() lists instead of gates.")
  flags.DEFINE_string(
    'results', None, 'The file of finished runs: those in it are not run again; default: results.json in the workdir.'
  )
  flags.DEFINE_string(
    'workdir', None, 'Where everything is written; default: runs/compare_<name of --results, or of the configuration>.'
  )
  sys.exit(command.run(main))
