"""Says whether a run can start here: `python -m cmpe_jax.tools.check --config=configs/digits.py --workdir=runs/digits`.

It tries what a training run needs, on the very machines, and prints a line for each part: what it found, or what a
person must do. All processes of a run run it; the first one prints. Nothing stays in the workdir.
"""

import contextlib

from cmpe_jax.config import check
from cmpe_jax.runtime import command, processes, start
from cmpe_jax.tools.check import collectives, machine, storage
from cmpe_jax.tools.check.report import Report
from cmpe_jax.tools.check.trial import Trial


def main() -> int:
  """The command; returns the exit code."""
  config, workdir = command.given_config('configs/digits.py'), command.given_workdir()
  check(config)
  start.jax(config.dtype)
  processes.start(*command.given_processes())
  machine.devices()  # without any nothing else can be tried
  report = Report()
  report.check('versions', machine.versions, machine.tell_versions)
  right = report.check('platform', start.check_platform, machine.tell_platform)
  report.check('devices', machine.devices, machine.tell_devices)
  with storage.left_as_it_was(workdir), contextlib.ExitStack() as opened:
    written = report.check(
      'workdir', lambda: storage.write_and_read(workdir), lambda seconds: storage.tell_written(workdir, seconds)
    )
    report.check(
      'one workdir',
      lambda: storage.see_one_place(workdir),
      lambda marks: storage.tell_place(workdir, marks),
      [written],
    )
    trial = Trial(config, opened)
    fits = report.check('configuration', trial.configure, trial.tell_configuration)
    read = report.check('data', trial.read, trial.tell_data, [fits])
    compiled = report.check('compiled step', trial.compile, trial.tell_compiled, [right, read])
    report.check('one step', trial.step, trial.tell_step, [compiled])
    report.check('collectives', collectives.all_reduce, collectives.tell, [right])
  return report.end()
