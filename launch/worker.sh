#!/usr/bin/env bash
# What tpu_vm.sh runs on each worker of a pod; the program outlives the connection that started it.
#
#   worker.sh install           a Python of our own in .venv, with requirements-tpu.txt
#   worker.sh mount DEVICE DIR  a shared data disk, read-only; DEVICE auto: the one disk that is not the boot disk
#   worker.sh start COMMAND...  starts it; output is added to run.log, the exit code goes to exit_code
#   worker.sh follow [LINES]    shows run.log with the worker's number before each line, until the command ends; from
#                               where this command started, or only the last LINES of it
#   worker.sh code COMMAND...   how it stands: running, other (another command runs), none (nothing has been started,
#                               or the machine lost it), stopped (by `stop`), or the exit code
#   worker.sh stop              asks it to save and stop (SIGTERM), and waits
#
# CMPE_JAX_LOGS=gs://... at `start`: run.log is copied there every minute and at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
number=${HOSTNAME##*-}

# The command's own shell, not another process that got its number after the machine was started again; nor `setsid`,
# which that shell was before it led a group of processes that `stop` can reach.
runs() {
  [[ -f pid && ! -f exit_code ]] && tr '\0' ' ' 2> /dev/null < "/proc/$(< pid)/cmdline" | grep -q '^bash .*cmpe_jax-run'
}

install() { # the system's Python may be older than 3.11
  if runs; then
    echo 'the program runs: what is installed stays'
    return
  fi
  python3 -m pip install --quiet --user uv
  ~/.local/bin/uv venv --quiet --allow-existing --python=3.11 .venv
  ~/.local/bin/uv pip install --quiet --python=.venv/bin/python --requirement=requirements-tpu.txt
}

# The disk that is not the boot disk. Names differ between kinds of disks and of machines.
data_device() {
  local boot disks
  boot=$(findmnt --noheadings --output=SOURCE /)
  boot=$(lsblk --noheadings --paths --output=PKNAME "$boot" | head -1)
  mapfile -t disks < <(lsblk --noheadings --nodeps --paths --output=NAME,TYPE | awk -v boot="$boot" '$2 == "disk" && $1 != boot { print $1 }')
  if ((${#disks[@]} != 1)); then
    echo "worker $number has ${#disks[@]} disks besides the boot disk (${disks[*]:-none}): name one with --data-device=/dev/..." >&2
    exit 2
  fi
  echo "${disks[0]}"
}

mount_disk() {
  local device=$1
  if mountpoint --quiet "$2"; then return; fi
  if [[ $device == auto ]]; then device=$(data_device); fi
  sudo mkdir -p "$2"
  sudo mount -o ro,noload "$device" "$2"
}

# Copies the log, for as long as it is asked to. A copy that fails costs nothing but the copy.
copy_logs() {
  [[ -f log_name ]] || date -u "+worker-$number-%Y%m%dT%H%M%SZ.log" > log_name # a new machine, a new name
  while true; do
    # One after the other: an older copy that is still under way would overwrite the last one.
    flock log.lock timeout 120 gcloud storage cp --quiet run.log "$CMPE_JAX_LOGS/$(< log_name)" > /dev/null 2>&1 || true
    [[ $1 == on ]] || break
    sleep "${CMPE_JAX_LOG_SECONDS:-60}"
  done
}

# The body of the command's own shell: it outlives SIGTERM, and writes down how the command ended.
run_command() {
  local code=0 copies=
  trap : TERM
  if [[ -n ${CMPE_JAX_LOGS:-} ]]; then
    copy_logs on &
    copies=$!
  fi
  "$@" >> run.log 2>&1 || code=$?
  echo "--- ended with $code" >> run.log
  if [[ -n $copies ]]; then
    kill -KILL "$copies" 2> /dev/null || true
    copy_logs once
  fi
  echo "$code" > exit_code.new # last: whoever sees it may delete the machine
  mv exit_code.new exit_code
}

start() {
  exec 9> lock
  flock 9 # two `start`s at once: one of them waits, and sees that the program runs
  if runs; then
    echo 'the program runs already: stop it first' >&2
    exit 2
  fi
  rm -f exit_code stopped
  quoted_command "$@" > started
  touch run.log
  wc -l < run.log > run.from
  echo "--- $(date -u '+%F %T') UTC: $(< started)" >> run.log
  export CMPE_JAX_PLATFORM=${CMPE_JAX_PLATFORM:-tpu} # the program ends rather than train on anything else
  setsid bash "$PWD/launch/worker.sh" run cmpe_jax-run "$@" > /dev/null 2>&1 < /dev/null 9>&- &
  shell=$!
  echo "$shell" > pid
  until runs || [[ -f exit_code ]]; do
    if ! kill -0 "$shell" 2> /dev/null && [[ ! -f exit_code ]]; then
      echo 'the program could not be started' >&2
      exit 1
    fi
    sleep 0.1
  done
}

quoted_command() { printf '%q ' "$@"; }

follow() {
  local first last
  if [[ ! -f run.from ]]; then
    echo "[worker $number] nothing has been started"
    return
  fi
  first=$(($(< run.from) + 1))
  if [[ -n ${1:-} ]]; then
    last=$(($(wc -l < run.log) - $1 + 1))
    first=$((last > first ? last : first))
  fi
  while runs; do sleep 0.2; done &
  looking=$!
  trap 'kill "$looking" 2> /dev/null || true' EXIT # a connection that broke leaves nothing here
  tail --lines=+"$first" --follow=name --retry --sleep-interval=0.2 --pid="$looking" run.log 2> /dev/null | sed --unbuffered "s/^/[worker $number] /"
}

code() {
  if runs; then
    if (($#)) && [[ $(quoted_command "$@") != "$(< started)" ]]; then echo other; else echo running; fi
  elif [[ ! -f exit_code ]]; then
    echo none
  elif [[ -f stopped ]] && (($(< exit_code) == 75 || $(< exit_code) >= 128)); then
    echo stopped
  else
    cat exit_code
  fi
}

stop() {
  runs || return 0
  touch stopped
  kill -TERM -- "-$(< pid)" 2> /dev/null || true
  while runs; do sleep 0.2; done
}

case ${1:-} in
  install | start | follow | code | stop) "$@" ;;
  mount) mount_disk "${@:2}" ;;
  run) run_command "${@:3}" ;;
  *)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    [[ ${1:-} == --help ]] || exit 2
    ;;
esac
