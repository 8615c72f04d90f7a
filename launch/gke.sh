#!/usr/bin/env bash
# Trains on a TPU slice in a Google Kubernetes Engine cluster (v4 and later, TPU7x included), as a JobSet.
# The cluster needs JobSet installed and a node pool with the slice; kubectl must point at it.
#
#   launch/gke.sh ACTION --name=NAME [flags] [-- flags of cmpe_jax.main]
#
# Actions
#   image     builds and pushes the container image from this checkout
#   submit    creates the JobSet, in place of one of that name that has ended; it restarts after a preemption or exit
#             code 75, and fails for good after 1 or 2
#   follow    shows the logs of all pods, each line with its pod's name, through restarts, until the JobSet has ended
#   delete    deletes the JobSet; the program gets SIGTERM and saves
#
# Flags
#   --name=NAME            of the JobSet
#   --image=IMAGE          image, submit: such as us-docker.pkg.dev/PROJECT/REPOSITORY/cmpe_jax:1
#   --accelerator=NAME     submit: tpu-v5-lite-podslice, tpu-v5p-slice, tpu-v6e-slice, tpu7x, ...
#   --topology=AxB[xC]     submit: chips of the slice, such as 4x4
#   --chips-per-host=N     submit: TPU chips of each machine of the node pool; default 4
#   --spot                 submit: on Spot machines; one that is taken away gives the program 15 seconds to save
#   --queue=NAME           submit: of Kueue (a LocalQueue), which starts the JobSet when its turn comes
#   --service-account=NAME submit: of Kubernetes, for the pods; default: the namespace's own
#   --env=NAME=VALUE       submit: environment of the program; may be given again, or as NAME=VALUE,NAME=VALUE
#   --data-claim=NAME      submit: a PersistentVolumeClaim with prepared data, mounted read-only at /mnt/data
#   --gcsfuse              submit: the claim is a bucket, which Cloud Storage FUSE mounts
#   --data-bucket=B[/DIR]  submit: a bucket with prepared data, or a folder of it, mounted read-only at /mnt/data
#   --config=FILE          submit: in this checkout
#   --workdir=gs://...     submit: a bucket that the pods' service account may write
#   --attempts=N           submit: restarts at most; default 100
#   --check                with submit: runs cmpe_jax.tools.check in place of the training as the JobSet NAME-check, shows
#                          it, deletes it, and ends with its code
#   --dry-run              prints the commands and the JobSet, runs nothing
#
# Example
#   launch/gke.sh submit --name=cmpe50 --image=us-docker.pkg.dev/P/R/cmpe_jax:1 --accelerator=tpu-v6e-slice \
#     --topology=4x4 --data-bucket=my-bucket/imagenet --config=configs/imagenet_cmpe50.py --workdir=gs://BUCKET/cmpe50 \
#     -- --config.data_dir=/mnt/data --config.batch_size=4096
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/gke_render.sh"

# shellcheck disable=SC2034 # common.sh reads it
actions=(image submit follow delete)
# shellcheck disable=SC2034
lists='env'
declare -A options=(
  [name]='' [image]='' [accelerator]='' [topology]='' [chips-per-host]=4 [spot]=no [queue]='' [service-account]='' [env]=''
  [data-claim]='' [gcsfuse]=no [data-bucket]='' [config]='' [workdir]='' [attempts]=100 [check]=no
)
parse "$@"
need name '[a-z]([-a-z0-9]{0,30}[a-z0-9])?' 'lower-case letters, digits and hyphens, a letter first, 32 at most'
if [[ $action == image || $action == submit ]]; then
  need image '[a-z0-9][a-zA-Z0-9._/:@-]+' 'an image such as us-docker.pkg.dev/PROJECT/REPOSITORY/cmpe_jax:1'
fi
name=${options[name]}
if [[ ${options[check]} == yes ]]; then name+=-check; fi
pods=--selector=jobset.sigs.k8s.io/jobset-name=$name
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

check_flags() {
  local line
  need accelerator 'tpu[a-z0-9-]+' 'a name such as tpu-v5-lite-podslice, tpu-v6e-slice or tpu7x'
  need topology '[1-9][0-9]*x[1-9][0-9]*(x[1-9][0-9]*)?' 'chips of the slice, such as 4x4 or 2x2x4'
  need chips-per-host '[1248]' '1, 2, 4 or 8, as the machines of the node pool have'
  need attempts '[1-9][0-9]*' 'a number of at least 1'
  [[ -z ${options[data-claim]} ]] || need data-claim '[a-z0-9][-a-z0-9.]*' 'the name of a PersistentVolumeClaim'
  [[ -z ${options[data-bucket]} ]] || need data-bucket '(gs://)?[a-z0-9][-a-z0-9._]+(/[^,]+)?' 'a bucket, or BUCKET/FOLDER'
  [[ -z ${options[data-bucket]} || -z ${options[data-claim]} ]] || die "--data-bucket and --data-claim are two sources for /mnt/data: give one of them."
  [[ ${options[gcsfuse]} == no || -n ${options[data-claim]} ]] || die "--gcsfuse says that the claim is a bucket: give --data-claim too, or --data-bucket alone."
  [[ -z ${options[queue]} ]] || need queue '[a-z0-9][-a-z0-9.]*' 'the name of a LocalQueue of Kueue'
  [[ -z ${options[service-account]} ]] || need service-account '[a-z0-9][-a-z0-9.]*' 'the name of a service account of Kubernetes'
  while read -r line; do
    [[ -z $line || $line =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || die "--env=$line does not fit: NAME=VALUE."
  done <<< "${options[env]}"
  need_config
  need workdir 'gs://.+' 'a bucket such as gs://BUCKET/RUN, which all pods see'
}

# Asks how the JobSet stands: `now` becomes Completed, Failed, ... (nothing while it runs), or ABSENT. Fails if kubectl
# does not say.
look() {
  now=$(kubectl get jobset "$name" '--output=jsonpath={.status.conditions[?(@.status=="True")].type}' 2> "$scratch/said") && return
  grep -q NotFound "$scratch/said" && now=ABSENT
}

submit() {
  local code=0
  check_flags
  if [[ $dry_run == yes ]]; then
    echo "kubectl apply --filename=- << 'JOBSET'"
    render
    echo JOBSET
    return
  fi
  look || die "kubectl does not say whether there is a JobSet $name: $(tail -1 "$scratch/said")"
  if [[ $now == *Completed* || $now == *Failed* ]]; then # applying to it would change nothing
    echo "$program: the JobSet $name of before has ended ($now): it is deleted."
    kubectl delete jobset "$name"
  elif [[ $now != ABSENT ]]; then
    die "the JobSet $name runs already: follow it, or delete it first."
  fi
  render | kubectl apply --filename=-
  [[ ${options[check]} == yes ]] || return 0
  follow || code=$?
  kubectl delete jobset "$name" --ignore-not-found || true
  return "$code"
}

# The exit code of a JobSet that failed, from its pods.
failed() {
  local codes
  mapfile -t codes < <(kubectl get pods "$pods" '--output=jsonpath={range .items[*]}{.status.containerStatuses[?(@.name=="main")].state.terminated.exitCode}{"\n"}{end}' | grep -xE '[1-9][0-9]*')
  case $(verdict "${codes[@]}") in
    stop) fault "${codes[@]}" ;;
    *) echo 75 ;; # interrupted more often than it may restart
  esac
}

# What to do now that the logs have come to an end: returns 100 to go on, or the exit code.
standing() {
  local code
  case $now in
    *Completed*) return 0 ;;
    *Failed*)
      code=$(failed)
      echo "$program: the JobSet $name failed with exit code $code." >&2
      return "$code"
      ;;
    ABSENT)
      [[ $seen == yes ]] || die "there is no JobSet $name: submit it first."
      echo "$program: the JobSet $name was deleted; submitting it again goes on." >&2
      return 75
      ;;
  esac
  return 100
}

follow() {
  local silent=0 seen=no since=() code words=(kubectl logs --follow --prefix --tail=-1 --max-log-requests=256 --container=main "$pods")
  if [[ $dry_run == yes ]]; then
    quoted "${words[@]}"
    return
  fi
  while true; do # the logs end when the pods do, when the connection breaks, and at once while there are none
    rm -f "$scratch/shown"
    "${words[@]}" "${since[@]}" 2> /dev/null | awk -v shown="$scratch/shown" 'NR == 1 { printf "" > shown; close(shown) } { print; fflush() }' || true
    [[ ! -f $scratch/shown ]] || since=("--since-time=$(date -u +%FT%TZ)")
    if look; then
      silent=0 code=0
      standing || code=$?
      ((code == 100)) || return "$code"
      seen=yes
      echo "$program: waiting for the pods of $name ..." >&2
    elif ((++silent >= 240)); then
      echo "$program: kubectl does not answer: $(tail -1 "$scratch/said")" >&2
      return 75
    fi
    pause
  done
}

case $action in
  image)
    run docker build --platform=linux/amd64 "--file=$top/launch/Dockerfile" "--tag=${options[image]}" "$top"
    run docker push "${options[image]}"
    ;;
  delete) run kubectl delete jobset "$name" ;;
  *) "$action" ;;
esac
