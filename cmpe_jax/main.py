"""Trains or evaluates: `python -m cmpe_jax.main --config=configs/digits.py [--config.KEY=VALUE] [--mode=eval]`."""

import sys

from absl import flags

from cmpe_jax import config as configuration
from cmpe_jax import names
from cmpe_jax.runtime import command

command.config_flag()
flags.DEFINE_string('workdir', None, 'Where everything is written; default: runs/<config name>.')
MODE = flags.DEFINE_enum('mode', 'train', ['train', 'eval'], 'Train (or go on), or evaluate on the test split.')
CHECKPOINT = flags.DEFINE_enum('checkpoint', 'best', list(names.CHECKPOINTS), 'Which checkpoint --mode=eval takes.')
command.processes_flags()
PROFILE = flags.DEFINE_string('profile', None, 'FIRST:LAST, steps to trace into WORKDIR/profile.')


def main() -> None:
  """Flags to calls. Imports late, so that a wrong flag is an instant answer."""
  config = command.given_config('configs/digits.py')
  workdir = command.given_workdir()
  configuration.check(config)

  from cmpe_jax.runtime import processes, start

  start.jax(config.dtype, workdir=workdir)
  processes.start(*command.given_processes())
  start.check_platform()
  if MODE.value == 'train':
    from cmpe_jax.runtime import profiler
    from cmpe_jax.training.train import train

    train(config, workdir, profiler.parse(PROFILE.value) if PROFILE.value else None)
  else:
    from cmpe_jax.training.evaluate import evaluate

    evaluate(config, workdir, CHECKPOINT.value)


def console() -> None:
  """The command `cmpe-jax` of an installation."""
  sys.exit(command.run(main))


if __name__ == '__main__':
  console()
