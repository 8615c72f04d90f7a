#!/usr/bin/env bash
# Trains on all NVIDIA GPUs of this machine, one process for all of them, and starts again when the program was
# interrupted (exit code 75) or killed by a signal. Makes .venv with requirements-gpu.txt if it is missing.
#
#   launch/gpu.sh --config=FILE [flags] [-- flags of cmpe_jax.main]
# On several machines without Slurm, run it on each of them with the same flags and
#   -- --coordinator_address=HOST:PORT --num_processes=N --process_id=I
# where HOST is the machine with I=0 and the workdir is on a file system that all of them share.
#
# Flags
#   --config=FILE     in this checkout
#   --workdir=PATH    default: runs/NAME for configs/NAME.py
#   --python=PYTHON   that makes .venv; default python3 (3.11 or later)
#   --attempts=N      starts at most; default 100
#   --dry-run         prints the commands, runs none
#
# Example
#   launch/gpu.sh --config=configs/imagenet_cmpe50.py --workdir=/data/runs/cmpe50 -- --config.batch_size=2048
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

declare -A options=([config]='' [workdir]='' [python]=python3 [attempts]=100)
parse "$@"
need_config
need attempts '[1-9][0-9]*' 'a number of at least 1'
if [[ -z ${options[workdir]} ]]; then
  options[workdir]=runs/$(basename "${options[config]}" .py)
fi
cd "$top"

if [[ ! -f .venv/installed-gpu || $dry_run == yes ]]; then
  run "${options[python]}" -m venv .venv
  run .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement=requirements-gpu.txt
  run touch .venv/installed-gpu
fi

mapfile -t words < <(flags)
child=
stopped=no # by a signal to this script: the program saves, then both end
trap 'stopped=yes; [[ -z $child ]] || kill -TERM "$child" 2> /dev/null' TERM INT
for ((attempt = 1; attempt <= options[attempts]; attempt++)); do
  if [[ $dry_run == yes ]]; then
    run .venv/bin/python -m cmpe_jax.main "${words[@]}"
    exit 0
  fi
  .venv/bin/python -m cmpe_jax.main "${words[@]}" &
  child=$!
  code=0
  wait "$child" || code=$?
  while kill -0 "$child" 2> /dev/null; do # a signal ends the wait before the program ends
    code=0
    wait "$child" || code=$?
  done
  [[ $stopped == no && $(verdict "$code") == again ]] || exit "$code"
  echo "$program: the program ended with $code; attempt $((attempt + 1)) of ${options[attempts]} ..."
done
exit 75
