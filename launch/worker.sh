#!/usr/bin/env bash
# What tpu_vm.sh runs on each worker of a pod; the program outlives the connection that started it.
#
#   worker.sh install           a Python of our own in .venv, with requirements-tpu.txt
#   worker.sh mount DEVICE DIR  a shared data disk, read-only
#   worker.sh start COMMAND...  starts it; output goes to run.log, the exit code to exit_code
#   worker.sh follow            shows run.log with the worker's number before each line, until the command ends
#   worker.sh code              prints its exit code, or none
#   worker.sh stop              asks it to save and stop (SIGTERM), and waits
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
  install) # the system's Python may be older than 3.11
    python3 -m pip install --quiet --user uv
    ~/.local/bin/uv venv --quiet --allow-existing --python=3.11 .venv
    ~/.local/bin/uv pip install --quiet --python=.venv/bin/python --requirement=requirements-tpu.txt
    ;;
  mount)
    sudo mkdir -p "$3"
    mountpoint --quiet "$3" || sudo mount -o ro,noload "$2" "$3"
    ;;
  start)
    if [[ -f pid ]] && kill -0 "$(< pid)" 2> /dev/null; then
      echo 'the program runs already: stop it first' >&2
      exit 2
    fi
    rm -f exit_code
    # The shell waits for the command even when both get SIGTERM, and writes down how it ended.
    # shellcheck disable=SC2016
    setsid bash -c 'trap : TERM; "$@" > run.log 2>&1; echo $? > exit_code' - "${@:2}" > /dev/null 2>&1 < /dev/null &
    echo $! > pid
    ;;
  follow)
    tail --lines=+1 --follow=name --retry --pid="$(< pid)" run.log 2> /dev/null | sed --unbuffered "s/^/[worker ${HOSTNAME##*-}] /"
    ;;
  code)
    if [[ -f exit_code ]]; then cat exit_code; else echo none; fi
    ;;
  stop)
    if [[ -f pid && ! -f exit_code ]]; then
      kill -TERM -- "-$(< pid)" 2> /dev/null || true
      while kill -0 "$(< pid)" 2> /dev/null; do sleep 1; done
    fi
    ;;
  *)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    [[ ${1:-} == --help ]] || exit 2
    ;;
esac
