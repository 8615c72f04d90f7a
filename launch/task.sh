#!/usr/bin/env bash
# What slurm.sh runs as each task: task.sh COMMAND...
#
# srun ends with the highest exit code of its tasks, so that one with 1 or 2 (the same command would fail again) would be
# lost among others with 75 (interrupted). Here 1 and 2 become 201 and 202, which are higher than any other.
# Slurm's signals reach the command by themselves, as they reach every process of the step.
trap : TERM INT
code=0
"$@" || code=$?
((code != 0 && code != 75 && code < 128)) || exit "$code"

# The others may wait for this one at their start. Those that train notice within the time of grace.
sleep "${GRACE_SECONDS:-30}"
scancel --signal=TERM "$SLURM_JOB_ID.$SLURM_STEP_ID" 2> /dev/null # they may have ended
exit $((code == 2 ? 202 : 201))
