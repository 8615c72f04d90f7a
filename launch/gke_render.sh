# shellcheck shell=bash disable=SC2154 # gke.sh sets what is used here
# The JobSet of gke.sh, from gke_jobset.yaml and the flags.

# The number of machines: chips of the topology over chips of a machine.
hosts() {
  local chips=$((${options[topology]//x/*}))
  ((chips >= options[chips-per-host])) || {
    echo 1
    return
  }
  echo $((chips / options[chips-per-host]))
}

# Words as a YAML list of strings.
yaml_list() {
  local word list=
  for word in "$@"; do list+="${list:+, }'${word//"'"/"''"}'"; done
  echo "$list"
}

# --env as a YAML list of names and values. A comma divides it only where NAME= follows.
environment() {
  local rest list='' given
  mapfile -t given <<< "${options[env]}"
  for rest in "${given[@]}"; do
    while [[ $rest =~ ^(.+),([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]]; do
      list+="${list:+, }{name: ${BASH_REMATCH[2]}, value: $(yaml_list "${BASH_REMATCH[3]}")}"
      rest=${BASH_REMATCH[1]}
    done
    [[ -z $rest ]] || list+="${list:+, }{name: ${rest%%=*}, value: $(yaml_list "${rest#*=}")}"
  done
  # The program ends rather than train on anything else.
  [[ $list == *'{name: CMPE_JAX_PLATFORM,'* ]] || list+="${list:+, }{name: CMPE_JAX_PLATFORM, value: 'tpu'}"
  echo "$list"
}

# without TAG: drops the lines of `text` that end with it.
without() { text=$(grep -v "# @$1@\$" <<< "$text"); }

render() {
  local text words attempts=${options[attempts]} chips=$((${options[topology]//x/*})) bucket=${options[data-bucket]#gs://}
  ((chips < options[chips-per-host])) || chips=${options[chips-per-host]}
  [[ ${options[check]} == no ]] || attempts=0
  mapfile -t words < <(flags)
  text=$(< "$top/launch/gke_jobset.yaml")
  [[ ${options[spot]} == yes ]] || without SPOT
  [[ -n ${options[queue]} ]] || without QUEUED
  [[ -n ${options[service-account]} ]] || without ACCOUNTED
  [[ -n ${options[data-claim]} ]] || without CLAIMED
  [[ -n $bucket ]] || without BUCKET
  [[ -n ${options[data-claim]}$bucket ]] || without DATA
  [[ -n $bucket || ${options[gcsfuse]} == yes ]] || without FUSE
  text=$(sed -e '1d' -e 's/  # @[A-Z]*@$//' <<< "$text")
  text=${text//@NAME@/"$name"}
  text=${text//@QUEUE@/"${options[queue]}"}
  text=${text//@ACCOUNT@/"${options[service-account]}"}
  text=${text//@IMAGE@/"${options[image]}"}
  text=${text//@ACCELERATOR@/"${options[accelerator]}"}
  text=${text//@TOPOLOGY@/"${options[topology]}"}
  text=${text//@HOSTS@/"$(hosts)"}
  text=${text//@CHIPS@/"$chips"}
  text=${text//@CLAIM@/"${options[data-claim]}"}
  text=${text//@BUCKET_NAME@/"${bucket%%/*}"}
  text=${text//@MOUNT_OPTIONS@/"$(yaml_list "implicit-dirs$([[ $bucket != */* ]] || echo ",only-dir=${bucket#*/}")")"}
  text=${text//@ATTEMPTS@/"$attempts"}
  text=${text//@ENV@/"$(environment)"}
  echo "${text//@COMMAND@/"$(yaml_list python -m "$(module)" "${words[@]}")"}"
}
