#!/usr/bin/env bash
# What slurm.sh runs as each task: task.sh COMMAND...
#
# srun ends with the highest exit code of its tasks, so that one with 1 or 2 (the same command would fail again) would be
# lost among others with 75 (interrupted). Here 1 and 2 become 201 and 202, which are higher than any other.
# By a cluster's settings a signal of Slurm reaches every process of the step, or only those that Slurm started: this
# shell. The program must hear it once, because a second one ends it at once. A process beside it, which dies of the
# signal, tells the two apart.
told=no
trap 'told=yes' TERM INT
sleep infinity > /dev/null 2>&1 &
beside=$!
disown "$beside" # bash says nothing of its end
"$@" &
program=$!
while true; do
  code=0
  wait "$program" || code=$?
  [[ $told == yes ]] || break
  told=no
  sleep 0.5 # the signals of one call come one after the other
  if kill -0 "$beside" 2> /dev/null; then kill -TERM "$program" 2> /dev/null; fi
done
kill "$beside" 2> /dev/null
((code != 0 && code != 75 && code < 128)) || exit "$code"

# The others may wait for this one at their start. Those that train notice within the time of grace.
sleep "${GRACE_SECONDS:-30}"
scancel --signal=TERM "$SLURM_JOB_ID.$SLURM_STEP_ID" 2> /dev/null # they may have ended
exit $((code == 2 ? 202 : 201))
