#!/usr/bin/env bash
# Trains on a TPU slice in a Google Kubernetes Engine cluster (v4 and later, TPU7x included), as a JobSet.
# The cluster needs JobSet installed and a node pool with the slice; kubectl must point at it.
#
#   launch/gke.sh ACTION --name=NAME [flags] [-- flags of cmpe_jax.main]
#
# Actions
#   image     builds and pushes the container image from this checkout
#   submit    creates the JobSet; it restarts after a preemption or exit code 75, and fails for good after 1 or 2
#   follow    shows the logs of all pods, each line with its pod's name
#   delete    deletes the JobSet; the program gets SIGTERM and saves
#
# Flags
#   --name=NAME            of the JobSet
#   --image=IMAGE          image, submit: such as us-docker.pkg.dev/PROJECT/REPOSITORY/cmpe_jax:1
#   --accelerator=NAME     submit: tpu-v5-lite-podslice, tpu-v5p-slice, tpu-v6e-slice, tpu7x, ...
#   --topology=AxB[xC]     submit: chips of the slice, such as 4x4
#   --chips-per-host=N     submit: TPU chips of each machine of the node pool; default 4
#   --spot                 submit: on spot machines
#   --data-claim=NAME      submit: a PersistentVolumeClaim with prepared data, mounted read-only at /mnt/data
#   --config=FILE          submit: in this checkout
#   --workdir=gs://...     submit: a bucket that the pods' service account may write
#   --attempts=N           submit: restarts at most; default 100
#   --dry-run              prints the commands and the JobSet, runs nothing
#
# Example
#   launch/gke.sh submit --name=cmpe50 --image=us-docker.pkg.dev/P/R/cmpe_jax:1 --accelerator=tpu-v6e-slice \
#     --topology=4x4 --config=configs/imagenet_cmpe50.py --workdir=gs://BUCKET/cmpe50 -- --config.batch_size=4096
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# shellcheck disable=SC2034 # common.sh reads it
actions=(image submit follow delete)
declare -A options=(
  [name]='' [image]='' [accelerator]='' [topology]='' [chips-per-host]=4 [spot]=no [data-claim]='' [config]='' [workdir]=''
  [attempts]=100
)
parse "$@"
need name '[a-z]([-a-z0-9]{0,30}[a-z0-9])?' 'lower-case letters, digits and hyphens, a letter first, 32 at most'
if [[ $action == image || $action == submit ]]; then
  need image '[a-z0-9][a-zA-Z0-9._/:@-]+' 'an image such as us-docker.pkg.dev/PROJECT/REPOSITORY/cmpe_jax:1'
fi

# The number of machines: chips of the topology over chips of a machine.
hosts() {
  local chips=$((${options[topology]//x/*}))
  ((chips >= options[chips-per-host])) || {
    echo 1
    return
  }
  echo $((chips / options[chips-per-host]))
}

# The program and its flags as a YAML list of strings.
command_list() {
  local word words list=
  mapfile -t words < <(flags)
  for word in python -m cmpe_jax.main "${words[@]}"; do
    list+="${list:+, }'${word//"'"/"''"}'"
  done
  echo "$list"
}

render() {
  local text chips=$((${options[topology]//x/*}))
  ((chips < options[chips-per-host])) || chips=${options[chips-per-host]}
  text=$(< "$top/launch/gke_jobset.yaml")
  [[ ${options[spot]} == yes ]] || text=$(grep -v '@SPOT@' <<< "$text")
  [[ -n ${options[data-claim]} ]] || text=$(grep -v '@DATA@' <<< "$text")
  text=$(sed -e '1d' -e 's/  # @[A-Z]*@$//' <<< "$text")
  text=${text//@NAME@/"${options[name]}"}
  text=${text//@IMAGE@/"${options[image]}"}
  text=${text//@ACCELERATOR@/"${options[accelerator]}"}
  text=${text//@TOPOLOGY@/"${options[topology]}"}
  text=${text//@HOSTS@/"$(hosts)"}
  text=${text//@CHIPS@/"$chips"}
  text=${text//@CLAIM@/"${options[data-claim]}"}
  text=${text//@ATTEMPTS@/"${options[attempts]}"}
  echo "${text//@COMMAND@/"$(command_list)"}"
}

submit() {
  need accelerator 'tpu[a-z0-9-]+' 'a name such as tpu-v5-lite-podslice, tpu-v6e-slice or tpu7x'
  need topology '[1-9][0-9]*x[1-9][0-9]*(x[1-9][0-9]*)?' 'chips of the slice, such as 4x4 or 2x2x4'
  need chips-per-host '[1248]' '1, 2, 4 or 8, as the machines of the node pool have'
  need attempts '[1-9][0-9]*' 'a number of at least 1'
  [[ -z ${options[data-claim]} ]] || need data-claim '[a-z0-9][-a-z0-9.]*' 'the name of a PersistentVolumeClaim'
  need_config
  need workdir 'gs://.+' 'a bucket such as gs://BUCKET/RUN, which all pods see'
  if [[ $dry_run == yes ]]; then
    echo 'kubectl apply --filename=- << '\''JOBSET'\'''
    render
    echo 'JOBSET'
  else
    render | kubectl apply --filename=-
  fi
}

case $action in
  image)
    run docker build "--file=$top/launch/Dockerfile" "--tag=${options[image]}" "$top"
    run docker push "${options[image]}"
    ;;
  submit) submit ;;
  follow) run kubectl logs --follow --prefix --max-log-requests=256 "--selector=jobset.sigs.k8s.io/jobset-name=${options[name]}" ;;
  delete) run kubectl delete jobset "${options[name]}" ;;
esac
