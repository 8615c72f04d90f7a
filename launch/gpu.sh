#!/usr/bin/env bash
# Trains on all NVIDIA GPUs of this machine, one process for all of them, and starts again when the program was
# interrupted (exit code 75) or killed by a signal. Makes .venv with requirements-gpu.txt if it is missing.
#
#   launch/gpu.sh --config=FILE [flags] [-- flags of cmpe_jax.main]
# On several machines without Slurm, run it on each of them with the same flags and
#   -- --coordinator_address=HOST:PORT --num_processes=N --process_id=I
# where HOST is the machine with I=0 and the workdir is on a file system that all of them share. A machine whose program
# ends with 1 or 2 tells the others through the workdir, and they end with the same code.
#
# Flags
#   --config=FILE     in this checkout
#   --workdir=PATH    default: runs/NAME for configs/NAME.py
#   --cuda=13|12      default 13; 12 (requirements-gpu-cuda12.txt) for a driver older than 580
#   --python=PYTHON   that makes .venv; default python3 (3.11 or later)
#   --attempts=N      starts at most; default 100
#   --check           runs cmpe_jax.tools.check in place of the training
#   --dry-run         prints the commands, runs none
#
# Example
#   launch/gpu.sh --config=configs/imagenet_cmpe50.py --workdir=/data/runs/cmpe50 -- --config.batch_size=2048
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

declare -A options=([config]='' [workdir]='' [cuda]=13 [python]=python3 [attempts]=100 [check]=no)
parse "$@"
need_config
need attempts '[1-9][0-9]*' 'a number of at least 1'
need cuda '13|12' '13, or 12 for a driver older than 580'
if [[ -z ${options[workdir]} ]]; then
  options[workdir]=runs/$(basename "${options[config]}" .py)
fi
options[workdir]=${options[workdir]/#\~\//$HOME/} # bash leaves it as it is within a word
cd "$top"

declare -A requirements=([13]=gpu [12]=gpu-cuda12) # .venv holds one of them: their plugins for JAX exclude each other
other=${requirements[$((25 - options[cuda]))]}
[[ ! -f .venv/installed-$other || $dry_run == yes ]] || die ".venv has what requirements-$other.txt installs: rm -r .venv first, to train with --cuda=${options[cuda]}."
wanted=${requirements[${options[cuda]}]}
installed=.venv/installed-$wanted
if [[ ! -f $installed || requirements-$wanted.txt -nt $installed || requirements.txt -nt $installed || $dry_run == yes ]]; then
  [[ $dry_run == yes ]] || "${options[python]}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null ||
    die "--python=${options[python]} is no Python of version 3.11 or later."
  run "${options[python]}" -m venv .venv
  run .venv/bin/python -m pip install --quiet --disable-pip-version-check "--requirement=requirements-$wanted.txt"
  run touch "$installed"
fi

mapfile -t words < <(flags)
run export "CMPE_JAX_PLATFORM=${CMPE_JAX_PLATFORM:-gpu}" # the program ends rather than train on anything else
if [[ $dry_run == yes ]]; then
  run .venv/bin/python -m "$(module)" "${words[@]}"
  exit 0
fi

# What the machines tell each other: WORKDIR/ended/I holds the exit code of process I and a mark of that end.
process='' processes=''
for word in "${extra[@]}"; do
  [[ $word != --process_id=* ]] || process=${word#*=}
  [[ $word != --num_processes=* ]] || processes=${word#*=}
done
ended=${options[workdir]%/}/ended
[[ ${options[workdir]} != *://* ]] || process= # a bucket: each waits until its program notices
if [[ -n $process ]]; then
  mkdir -p "$ended" 2> /dev/null || die "--workdir=${options[workdir]} cannot be written."
  rm -f "$ended/$process"
fi
# The numbers of those that have ended for good; a run on more machines may have left files of larger ones.
gone() { find "$ended" -type f -printf '%f\n' 2> /dev/null | awk -v processes="$processes" 'processes == "" || $1 < processes' | sort -n; }
told() { gone | while read -r number; do cat "$ended/$number" 2> /dev/null || true; done; }
news() { told | grep -vxF "$before" || true; }
before=$([[ -z $process ]] || told) # of an earlier start, perhaps: those machines may be about to start again

child=
stopped=no # by a signal to this script: the program saves, then both end
sent=      # the program that was told: once, because a second signal would end it at once
trap 'stopped=yes; if [[ -n $child ]]; then sent=$child; kill -TERM "$child" 2> /dev/null; fi' TERM INT

# Waits for the program, and no longer for one whose peers ended for good: it has GRACE_SECONDS to notice.
attend() {
  local left=${GRACE_SECONDS:-30}
  if [[ -n $process ]]; then
    while kill -0 "$child" 2> /dev/null; do
      if [[ -n $(news) ]] && ((left-- == 0)); then kill -TERM "$child" 2> /dev/null || true; fi
      if ((left == -30)); then kill -KILL "$child" 2> /dev/null || true; fi
      sleep 1
    done
  fi
  code=0
  wait "$child" || code=$?
  while kill -0 "$child" 2> /dev/null; do # a signal ends the wait before the program ends
    code=0
    wait "$child" || code=$?
  done
}

for ((attempt = 1; attempt <= options[attempts]; attempt++)); do
  child=
  .venv/bin/python -m "$(module)" "${words[@]}" &
  child=$!
  [[ $stopped == no || $sent == "$child" ]] || kill -TERM "$child" 2> /dev/null || true # it came between the two lines
  attend
  result=$(verdict "$code")
  if [[ -n $process && $result == stop ]]; then echo "$code $(date +%s) $RANDOM" > "$ended/$process"; fi
  [[ $stopped == no && $result == again ]] || exit "$code"
  if [[ -n $process && -n $(told) ]]; then
    mapfile -t codes < <(told | cut -d' ' -f1)
    echo "$program: process $(gone | paste -sd,) ended with ${codes[*]} and cannot go on: this one ends too." >&2
    exit "$(fault "${codes[@]}")"
  fi
  echo "$program: the program ended with $code; attempt $((attempt + 1)) of ${options[attempts]} ..."
done
exit 75
