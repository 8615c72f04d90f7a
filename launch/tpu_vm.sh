#!/usr/bin/env bash
# Trains on a Cloud TPU slice (v2 to v6e), through preemptions, from your own machine.
#
#   launch/tpu_vm.sh ACTION --name=NAME --zone=ZONE [flags] [-- flags of cmpe_jax.main]
#
# Actions
#   train     all of it: create, install, start, follow; again whenever the slice is preempted or the program says that
#             it was interrupted (exit code 75); never after a wrong input (exit code 2). The slice stays: delete it.
#   create    queues the request for a slice and waits until it is there
#   install   copies the last commit to all workers and installs it
#   start     starts the same command on all workers; it goes on when you disconnect
#   follow    shows the logs of all workers, each line with its worker's number
#   stop      asks the program to save its state and stop
#   delete    deletes the slice and its request
#
# Flags
#   --name=NAME        of the slice and its queued resource
#   --zone=ZONE        such as us-central1-a
#   --project=ID       default: gcloud's
#   --type=TYPE        create, train: such as v5litepod-16, v5p-16, v6e-16
#   --runtime=VERSION  software of the machines; default: the one that belongs to --type
#   --spot             create, train: cheaper, and may be taken away at any time
#   --data-disk=DISK   create, train: projects/P/zones/Z/disks/D with prepared data, mounted read-only on all
#                      workers at /mnt/data
#   --config=FILE      start, train: in this checkout
#   --workdir=gs://... start, train: a bucket, because all workers must see it
#   --attempts=N       train: starts at most; default 100
#   --dry-run          prints the commands of a run without a preemption, runs none
#
# Example
#   launch/tpu_vm.sh train --name=cmpe50 --zone=us-central1-a --type=v5litepod-16 --spot \
#     --config=configs/imagenet_cmpe50.py --workdir=gs://BUCKET/cmpe50 -- --config.batch_size=4096
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# shellcheck disable=SC2034 # common.sh reads it
actions=(train create install start follow stop delete)
declare -A options=(
  [name]='' [zone]='' [project]='' [type]='' [runtime]='' [spot]=no [data-disk]='' [config]='' [workdir]='' [attempts]=100
)
parse "$@"
need name '[a-z]([-a-z0-9]{0,37}[a-z0-9])?' 'lower-case letters, digits and hyphens, a letter first'
need zone '[a-z]+-[a-z]+[0-9]+-[a-z]' 'a zone such as us-central1-a'
need attempts '[1-9][0-9]*' 'a number of at least 1'
if [[ $action == create || $action == train ]]; then
  need type 'v[2-6][a-z]*-[0-9]+' 'a type such as v5litepod-16 (Cloud TPU has v2 to v6e; later ones: launch/gke.sh)'
  [[ -z ${options[data-disk]} ]] || need data-disk 'projects/[^/]+/zones/[^/]+/disks/[^/]+' 'projects/P/zones/Z/disks/D'
fi
if [[ $action == start || $action == train ]]; then
  need_config
  need workdir 'gs://.+' 'a bucket such as gs://BUCKET/RUN, which all workers see'
fi

place=("--zone=${options[zone]}")
[[ -z ${options[project]} ]] || place+=("--project=${options[project]}")

# The runtime version that Google names for JAX on each generation.
runtime() {
  case ${options[type]} in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

# on_workers COMMAND
on_workers() {
  run gcloud compute tpus tpu-vm ssh "${options[name]}" "${place[@]}" --worker=all --command="$1"
}

# The state of the request: ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED, ...; nothing if there is none.
state() {
  gcloud compute tpus queued-resources describe "${options[name]}" "${place[@]}" --format='value(state.state)' 2> /dev/null || true
}

create() {
  local now words=("--accelerator-type=${options[type]}" "--runtime-version=${options[runtime]:-$(runtime)}")
  [[ ${options[spot]} == no ]] || words+=(--spot)
  [[ -z ${options[data-disk]} ]] || words+=("--data-disk=source=${options[data-disk]},mode=read-only")
  if [[ $dry_run == no ]]; then
    now=$(state)
    case $now in
      '' | ACTIVE | ACCEPTED | PROVISIONING | CREATING | WAITING_FOR_RESOURCES) ;;
      *) remove || return 75 ;; # preempted or failed: a request is good for one slice
    esac
  fi
  if [[ -z ${now:-} || -z $(state) ]]; then
    run gcloud compute tpus queued-resources create "${options[name]}" "--node-id=${options[name]}" "${place[@]}" "${words[@]}" || return 2
  fi
  [[ $dry_run == no ]] || return 0
  until [[ $(state) == ACTIVE ]]; do
    case $(state) in
      FAILED | SUSPENDED | SUSPENDING | '')
        echo "$program: the request for ${options[name]} ended as '$(state)'." >&2
        return 75
        ;;
    esac
    echo "$program: waiting for ${options[name]} ($(state)) ..."
    sleep "${POLL_SECONDS:-30}"
  done
}

install() {
  local archive="${TMPDIR:-/tmp}/${options[name]}.tar.gz"
  [[ -z $(git -C "$top" status --porcelain 2> /dev/null) ]] || echo "$program: uncommitted changes stay here." >&2
  run git -C "$top" archive --format=tar.gz --output="$archive" HEAD || return 2
  run gcloud compute tpus tpu-vm scp "$archive" "${options[name]}:cmpe_jax.tar.gz" "${place[@]}" --worker=all || return 75
  on_workers 'mkdir -p cmpe_jax && tar -xzf cmpe_jax.tar.gz -C cmpe_jax && bash cmpe_jax/launch/worker.sh install' || return 75
  if [[ -n ${options[data-disk]} ]]; then
    on_workers 'bash cmpe_jax/launch/worker.sh mount /dev/disk/by-id/google-persistent-disk-1 /mnt/data'
  fi
}

start() {
  local words
  mapfile -t words < <(flags)
  on_workers "bash cmpe_jax/launch/worker.sh start .venv/bin/python -m cmpe_jax.main $(quoted "${words[@]}")"
}

follow() { on_workers 'bash cmpe_jax/launch/worker.sh follow'; }

stop() { on_workers 'bash cmpe_jax/launch/worker.sh stop'; }

remove() { run gcloud compute tpus queued-resources delete "${options[name]}" "${place[@]}" --force --quiet; }

# One exit code a worker; none from a slice that is gone.
codes() { on_workers 'bash cmpe_jax/launch/worker.sh code' 2> /dev/null | grep -xE '[0-9]+|none' || true; }

train() {
  local attempt code found
  if [[ $dry_run == yes ]]; then
    create && install && start && follow && on_workers 'bash cmpe_jax/launch/worker.sh code'
    return
  fi
  for ((attempt = 1; attempt <= options[attempts]; attempt++)); do
    code=0
    { create && install && start; } || code=$?
    if ((code == 2)); then
      return 2 # gcloud or git has said why
    elif ((code == 0)); then
      follow || true # the connection may break; what counts is how the program ended
      mapfile -t found < <(codes)
      case $(verdict "${found[@]}") in
        done) return 0 ;;
        stop)
          echo "$program: the program ended with ${found[*]}: the same command would fail again." >&2
          return "$(printf '%s\n' "${found[@]}" | grep -xE '[1-9][0-9]*' | sort -n | head -1)"
          ;;
      esac
    fi
    echo "$program: interrupted; attempt $((attempt + 1)) of ${options[attempts]} ..."
    sleep "${POLL_SECONDS:-30}"
  done
  echo "$program: gave up after ${options[attempts]} attempts; the same command goes on." >&2
  return 75
}

if [[ $action == delete ]]; then remove; else "$action"; fi
