# shellcheck shell=bash
# What the launch scripts share: flags, errors, dry runs, and which exit codes are worth another try.
# A script sets `options` (flag -> default; yes/no for switches), `actions`, and `lists` (flags that may be given more
# than once; their values, one a line), then calls `parse "$@"`.

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "the launch scripts need bash 4.4 or later, this is $BASH_VERSION" >&2
  exit 2
fi
program=$(basename "$0")
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dry_run=no
action=
extra=() # flags for the program, given after --
lists=''
declare -gA options

# A wrong input: one sentence, exit code 2.
die() {
  echo "$program: $*" >&2
  exit 2
}

# The comment at the head of the script.
usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
}

# parse "$@": fills `options`, `action`, `extra` and `dry_run`.
parse() {
  local name
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --dry-run) dry_run=yes ;;
      --)
        extra=("${@:2}")
        break
        ;;
      --*)
        name=${1%%=*} name=${name#--}
        [[ -v options[$name] ]] || die "--$name is not a flag: see $program --help."
        if [[ ${options[$name]} == no && $1 == "--$name" ]]; then
          options[$name]=yes
        elif [[ $1 == *=?* && " $lists " == *" $name "* ]]; then
          options[$name]+="${options[$name]:+$'\n'}${1#*=}"
        elif [[ $1 == *=?* ]]; then
          options[$name]=${1#*=}
        else
          die "--$name needs a value, as in --$name=VALUE."
        fi
        ;;
      *)
        [[ -z $action && " ${actions[*]:-} " == *" $1 "* ]] || die "'$1' is not an action here${actions[*]:+: choose one of ${actions[*]}}."
        action=$1
        ;;
    esac
    shift
  done
  [[ -n $action || -z ${actions[*]:-} ]] || die "say what to do: ${actions[*]}."
}

# need NAME PATTERN SENTENCE: the option must be given and match.
need() {
  [[ -n ${options[$1]} ]] || die "--$1 is missing: $3."
  [[ ${options[$1]} =~ ^($2)$ ]] || die "--$1=${options[$1]} does not fit: $3."
}

# The configuration file must exist in this checkout, so that no machine is paid for a misspelled name.
need_config() {
  need config '.*\.py' 'a file such as configs/imagenet_cmpe50.py'
  [[ -f $top/${options[config]} ]] || die "--config=${options[config]} does not exist in $top."
}

# Words as a shell would take them back.
quoted() {
  local word text=
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
    text+="${text:+ }$word"
  done
  echo "$text"
}

# Runs a command, or prints it in a dry run.
run() {
  if [[ $dry_run == yes ]]; then quoted "$@"; else "$@"; fi
}

# What runs: the training, or with --check the command that says whether it could.
module() {
  if [[ ${options[check]:-no} == yes ]]; then echo cmpe_jax.tools.check; else echo cmpe_jax.main; fi
}

# The flags of the program, one a line.
flags() {
  printf '%s\n' "--config=${options[config]}" "--workdir=${options[workdir]}" "${extra[@]}"
}

# verdict CODE...: 'done' if all are 0; 'again' if the rest is 75 (interrupted), a signal, a lost connection or a lost
# machine (none); 'stop' if one is anything else, because the same command would fail again.
verdict() {
  local code result='done'
  (($#)) || result=again
  for code in "$@"; do
    if [[ $code == none ]] || ((code == 75 || code >= 128)); then
      result=again
    elif ((code != 0)); then
      result=stop
      break
    fi
  done
  echo "$result"
}

# fault CODE...: the lowest of those for which `verdict` says stop.
fault() { printf '%s\n' "$@" | grep -xE '[1-9][0-9]*' | grep -vxE '75|1[3-9][0-9]|12[89]|2[0-9]{2}' | sort -n | head -1; }

# Waits a little before something is asked or tried again.
pause() { sleep "${POLL_SECONDS:-30}"; }
