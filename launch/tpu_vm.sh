#!/usr/bin/env bash
# Trains on a Cloud TPU slice (v2 to v6e), through preemptions, from your own machine.
#
#   launch/tpu_vm.sh ACTION --name=NAME --zone=ZONE [flags] [-- flags of cmpe_jax.main]
#
# Actions
#   train     all of it: create, install, start, follow; again whenever the slice is preempted or the program says that
#             it was interrupted (exit code 75); never after a wrong input (exit code 2) nor after three failures without
#             a newer checkpoint. Deletes the slice at each of these ends; not after Ctrl-C or `stop`. Start it again at any
#             time: it follows what runs.
#   create    queues the request for a slice and waits until it is there
#   install   copies the last commit to all workers and installs it
#   start     starts the same command on all workers; it goes on when you disconnect
#   follow    shows the logs of all workers, each line with its worker's number
#   stop      asks the program to save its state and stop; the slice stays
#   delete    deletes the slice and its request
#
# Flags
#   --name=NAME        of the slice and its queued resource
#   --zone=ZONE        such as us-central1-a
#   --project=ID       default: gcloud's
#   --type=TYPE        create, train: such as v5litepod-16, v5p-16, v6e-16
#   --runtime=VERSION  software of the machines; default: the one that belongs to --type
#   --spot             create, train: cheaper, and may be taken away at any time
#   --data-disk=DISK   create, install, train: projects/P/zones/Z/disks/D with prepared data, mounted read-only on all
#                      workers at /mnt/data
#   --data-device=PATH install, train: the disk's device on the workers; default: the one that is not the boot disk
#   --config=FILE      start, train: in this checkout
#   --workdir=gs://... start, train: a bucket, because all workers must see it; logs are copied to its folder logs
#   --attempts=N       train: starts at most; default 100
#   --keep             train: the slice stays at the end
#   --check            start, train: runs cmpe_jax.tools.check in place of the training, on the same machines
#   --dry-run          prints the commands of a run without a preemption, runs none
#
# Example
#   launch/tpu_vm.sh train --name=cmpe50 --zone=us-central1-a --type=v5litepod-16 --spot \
#     --data-disk=projects/P/zones/us-central1-a/disks/imagenet --config=configs/imagenet_cmpe50.py \
#     --workdir=gs://BUCKET/cmpe50 -- --config.data_dir=/mnt/data --config.batch_size=4096
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/tpu_train.sh"

# shellcheck disable=SC2034 # common.sh reads it
actions=(train create install start follow stop delete)
declare -A options=(
  [name]='' [zone]='' [project]='' [type]='' [runtime]='' [spot]=no [data-disk]='' [data-device]=auto [config]='' [workdir]=''
  [attempts]=100 [keep]=no [check]=no
)
parse "$@"
need name '[a-z]([-a-z0-9]{0,37}[a-z0-9])?' 'lower-case letters, digits and hyphens, a letter first'
need zone '[a-z]+-[a-z]+[0-9]+-[a-z]' 'a zone such as us-central1-a'
need attempts '[1-9][0-9]*' 'a number of at least 1'
if [[ $action == create || $action == train ]]; then
  [[ ${options[type]} != v5e-* ]] || die "--type=${options[type]} does not fit: Cloud TPU calls it --type=v5litepod-${options[type]#v5e-}."
  need type '(v2|v3|v4|v5litepod|v5p|v6e)-[1-9][0-9]*' 'a type such as v5litepod-16 (Cloud TPU has v2 to v6e; later ones: launch/gke.sh)'
fi
[[ -z ${options[data-disk]} ]] || need data-disk 'projects/[^/]+/zones/[^/]+/disks/[^/]+' 'projects/P/zones/Z/disks/D'
need data-device 'auto|/dev/.+' 'a device such as /dev/disk/by-id/google-persistent-disk-1'
if [[ $action == start || $action == train ]]; then
  need_config
  # `install` sends the last commit: what is not in it would be missed on machines that are paid for.
  if git -C "$top" rev-parse HEAD &> /dev/null && ! git -C "$top" cat-file -e "HEAD:./${options[config]}" 2> /dev/null; then
    die "--config=${options[config]} is not in the last commit, which is what the workers get: commit it."
  fi
  need workdir 'gs://.+' 'a bucket such as gs://BUCKET/RUN, which all workers see'
fi

place=("--zone=${options[zone]}")
[[ -z ${options[project]} ]] || place+=("--project=${options[project]}")
patience=3 # times that gcloud is asked before anything is known; `train` raises it
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

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

# Whether --type has several machines: one has eight chips, or cores, at most.
is_pod() { ((${options[type]##*-} > 8)); }

# gcloud refuses to reach several workers when an ssh-agent has keys, but not its own.
check_agent() {
  local key=~/.ssh/google_compute_engine keys print
  keys=$(ssh-add -l 2> /dev/null) || return 0 # no agent, or one without keys
  [[ -f $key ]] || die "the ssh-agent has keys, but gcloud's own does not exist yet: run gcloud compute config-ssh, then ssh-add $key."
  print=$(ssh-keygen -lf "$key" | cut -d' ' -f2)
  [[ $keys == *"$print"* ]] || die "the ssh-agent has keys, but not $key, without which gcloud reaches no more than one worker: run ssh-add $key."
}

# A Hyperdisk, the only kind that v6e takes, is shared by several machines only in the mode READ_ONLY_MANY.
check_disk() {
  local disk=${options[data-disk]} found kind mode change project zone name
  [[ -n $disk ]] || return 0
  IFS=/ read -r _ project _ zone _ name <<< "$disk"
  found=$(gcloud compute disks describe "$name" "--zone=$zone" "--project=$project" --format='csv[no-heading](type.basename(),accessMode)' 2> "$scratch/said") ||
    die "--data-disk=$disk cannot be looked at: $(tail -1 "$scratch/said")"
  IFS=, read -r kind mode <<< "$found"
  change="gcloud compute disks update $name --zone=$zone --project=$project --access-mode=READ_ONLY_MANY"
  [[ ${options[type]} != v6e-* || $kind == hyperdisk-* ]] || die "--data-disk=$disk is a $kind: v6e takes hyperdisk-balanced or hyperdisk-ml only."
  [[ $kind != hyperdisk-* || $mode == READ_ONLY_MANY ]] || ! is_pod || die "--data-disk=$disk is in the mode ${mode:-READ_WRITE_SINGLE}, in which several machines cannot read it: run $change."
}

# Asks how the request stands: `now` becomes ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED, ..., or ABSENT if there is none.
# Fails, with `now` UNKNOWN, if gcloud does not say, as without a network or a login.
look() {
  if now=$(gcloud compute tpus queued-resources describe "${options[name]}" "${place[@]}" --format='value(state.state)' 2> "$scratch/said"); then
    [[ -z $now ]] || return 0
  elif grep -q NOT_FOUND "$scratch/said"; then
    now=ABSENT
    return 0
  fi
  now=UNKNOWN
  return 1
}

# know TIMES: looks until gcloud says.
know() {
  local try
  for ((try = 1; ; try++)); do
    if look; then return; fi
    echo "$program: gcloud does not say how ${options[name]} stands: $(tail -1 "$scratch/said")" >&2
    ((try < $1)) || return 1
    pause
  done
}

# Sends the request. 2 if it is refused, 75 if it may be taken another time, 3 if it is not known whether it arrived.
request() {
  local words=("--accelerator-type=${options[type]}" "--runtime-version=${options[runtime]:-$(runtime)}")
  [[ ${options[spot]} == no ]] || words+=(--spot)
  [[ -z ${options[data-disk]} ]] || words+=("--data-disk=source=${options[data-disk]},mode=read-only")
  run gcloud compute tpus queued-resources create "${options[name]}" "--node-id=${options[name]}" "${place[@]}" "${words[@]}" 2> "$scratch/refused" && {
    # shellcheck disable=SC2034 # tpu_train.sh reads it
    may_run=no
    return
  }
  cat "$scratch/refused" >&2
  know "$patience" || return 3
  [[ $now == ABSENT ]] || return 0 # it arrived all the same, or another one was faster
  ! grep -qE 'UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|ABORTED|crashed|refreshing' "$scratch/refused" || return 75
  return 2
}

create() {
  if [[ $dry_run == yes ]]; then
    request
    return
  fi
  if ! know "$patience"; then
    echo "$program: nothing is requested as long as a request of that name may be there: the same command goes on." >&2
    return 3
  fi
  case $now in
    FAILED | SUSPENDED | SUSPENDING) # preempted: a request is good for one slice
      remove && request || return
      ;;
    ABSENT) request || return ;;
  esac
  while know "$patience"; do
    case $now in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDED | SUSPENDING | ABSENT)
        echo "$program: the request for ${options[name]} ended as $now." >&2
        return 75
        ;;
    esac
    echo "$program: waiting for ${options[name]} ($now) ..."
    pause
  done
  return 3
}

install() {
  local archive="${TMPDIR:-/tmp}/${options[name]}.tar.gz"
  [[ -z $(git -C "$top" status --porcelain 2> /dev/null) ]] || echo "$program: uncommitted changes stay here." >&2
  run git -C "$top" archive --format=tar.gz --output="$archive" HEAD || return 2
  run gcloud compute tpus tpu-vm scp "$archive" "${options[name]}:cmpe_jax.tar.gz" "${place[@]}" --worker=all || return 75
  # shellcheck disable=SC2016 # the workers expand it. Nothing changes beneath a program that runs or starts.
  on_workers 'mkdir -p cmpe_jax && (flock 9; if [ "$(bash cmpe_jax/launch/worker.sh code 2> /dev/null)" != running ]; then tar -xzf cmpe_jax.tar.gz -C cmpe_jax; fi) 9> cmpe_jax/lock && bash cmpe_jax/launch/worker.sh install' || return 75
  if [[ -n ${options[data-disk]} ]]; then
    on_workers "bash cmpe_jax/launch/worker.sh mount $(quoted "${options[data-device]}") /mnt/data" || return 75
  fi
}

# The command that runs on each worker, as one line of shell.
command_line() {
  local words
  mapfile -t words < <(flags)
  quoted .venv/bin/python -m "$(module)" "${words[@]}"
}

start() {
  on_workers "CMPE_JAX_LOGS=$(quoted "${options[workdir]%/}/logs") bash cmpe_jax/launch/worker.sh start $(command_line)"
}

# follow [LINES]
follow() { on_workers "bash cmpe_jax/launch/worker.sh follow${1:+ $1}"; }

stop() { on_workers 'bash cmpe_jax/launch/worker.sh stop'; }

# Three times, because a slice that stays costs money. One that is not there is deleted.
remove() {
  local try
  for try in 1 2 3; do
    run gcloud compute tpus queued-resources delete "${options[name]}" "${place[@]}" --force --quiet 2> "$scratch/said" && return
    grep -q NOT_FOUND "$scratch/said" && return
    cat "$scratch/said" >&2
    ((try == 3)) || pause
  done
  return 75
}

if [[ $dry_run == no && ($action == create || $action == train) ]]; then
  if is_pod; then check_agent; fi
  check_disk
fi
case $action in
  delete) remove ;;
  create)
    code=0
    create || code=$?
    exit $((code == 3 ? 75 : code)) # a request that may have arrived is found by the next call
    ;;
  *) "$action" ;;
esac
