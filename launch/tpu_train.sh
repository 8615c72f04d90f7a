# shellcheck shell=bash disable=SC2154,SC2034 # tpu_vm.sh sets what is used here
# The action `train` of tpu_vm.sh: a slice, a program on it, and what to do when one of them is lost.

newest=-1 # the highest step of a checkpoint seen in the workdir
found=()  # how the program stands on each worker, as worker.sh says it
why=      # what ended the last attempt, in words
stage=    # setup, until the program runs; then program
ending=2  # the exit code where nothing may be touched; 75 once there was a slice
may_run=yes # a program on the slice: it was there before, or one was started on it

# The worker's answers in `found`. Fails if they cannot be reached.
ask() {
  local said
  found=()
  said=$(on_workers "if [ -f cmpe_jax/launch/worker.sh ]; then bash cmpe_jax/launch/worker.sh code $(command_line); else echo none; fi" 2> "$scratch/asked") || return 1
  mapfile -t found < <(grep -xE '[0-9]+|none|running|other|stopped' <<< "$said")
  ((${#found[@]}))
}

# Asks for ten minutes, until the workers answer. Fails, with `found` empty, if they do not, or if gcloud does not say how
# the slice stands. Where it is lost, `found` is empty as well, and `now` says what became of it.
reach() {
  local silent=0
  until ask; do
    know "$patience" || return 1
    [[ $now == ACTIVE ]] || return 0
    ((++silent < 20)) || return 1
    echo "$program: ${options[name]} is $now, but its workers do not answer: $(tail -1 "$scratch/asked")" >&2
    pause
  done
}

some() { [[ " ${found[*]} " == *" $1 "* ]]; }

# Shows the program until it has ended, through lost connections. Afterwards `found` says how; empty if its slice is
# lost, with `now` for what became of that.
watch() {
  local lines=
  while true; do
    follow $lines || true # the connection may break; what counts is what the workers say
    lines=20
    reach || return 0
    some running || return 0
    echo "$program: the connection broke, the program goes on; following it again ..."
    pause
  done
}

# Whether there is a newer checkpoint than at the last call. Where the bucket does not say, a program that ran is
# believed to have got on, and a step before it is not.
got_on() {
  local listed step before=$newest
  if ! listed=$(gcloud storage ls "${options[workdir]%/}/checkpoints/" 2> "$scratch/said"); then
    grep -q 'matched no objects' "$scratch/said" && return 1
    [[ $stage == program ]]
    return
  fi
  for step in $(grep -oE '/[0-9]+/?$' <<< "$listed" | tr -d /); do
    ((step <= newest)) || newest=$step
  done
  ((newest > before))
}

# One attempt: a slice, a program, its end. 0 done, 75 worth another one (`why`), 3 not worth it, and everything must stay
# as it is (`ending`: the exit code), anything else: the same would happen again.
attempt() {
  stage=setup why='there was no slice'
  create || return
  patience=240 ending=75 # two hours without a network
  if [[ $may_run == no ]]; then
    ask || true # ssh begins to answer a little after the slice is there
  elif ! reach; then
    echo "$program: a program may run on ${options[name]}, whose workers do not answer, so it is neither touched nor deleted; the same command asks again." >&2
    return 3
  fi
  if some other; then
    echo "$program: another command runs on ${options[name]}: stop it first (launch/$program stop $(target)), or give another --name." >&2
    ending=2
    return 3
  fi
  if ! some running; then
    why='the installation failed'
    install || return
    why='the program could not be started'
    if ! start; then # another `train` may have been faster
      ask || return 75
      some running || return 75
    fi
  fi
  stage=program may_run=yes
  watch
  why="the program ended with ${found[*]}"
  if some stopped; then
    echo "$program: it was stopped; the same command goes on." >&2
    return 3
  elif ((${#found[@]} == 0)) && [[ $now == UNKNOWN ]]; then
    echo "$program: gcloud does not answer; the program may go on, and the same command follows it." >&2
    return 3
  elif ((${#found[@]} == 0)) && [[ $now == ABSENT ]]; then
    echo "$program: ${options[name]} was deleted by somebody; the same command goes on." >&2
    return 3
  elif ((${#found[@]} == 0)); then
    why="the slice was lost ($now)"
    [[ $now != ACTIVE ]] || why='no worker answered'
  fi
  case $(verdict "${found[@]}") in
    done) return 0 ;;
    stop) return "$(fault "${found[@]}")" ;;
  esac
  return 75
}

# The flags that name the slice.
target() { quoted "--name=${options[name]}" "${place[@]}"; }

# The last line of `train`, however it ends.
costs() {
  local storage="the storage of ${options[workdir]}${options[data-disk]:+ and ${options[data-disk]}}"
  look || true
  case $now in
    ABSENT) echo "$program: ${options[name]} is deleted; what still costs money: $storage." ;;
    UNKNOWN) echo "$program: gcloud does not say whether ${options[name]} still costs money; this ends it: launch/$program delete $(target)" ;;
    *) echo "$program: what still costs money: ${options[name]} ($now), and $storage; this ends the first: launch/$program delete $(target)" ;;
  esac
  rm -rf "$scratch"
}

# Deletes the slice, unless it is to stay, and ends with a code.
finish() {
  [[ ${options[keep]} == yes ]] || remove || true # `costs` says if it is still there
  return "$1"
}

train() {
  local number code failures=0
  if [[ $dry_run == yes ]]; then
    create && install && start && follow && on_workers "bash cmpe_jax/launch/worker.sh code $(command_line)"
    [[ ${options[keep]} == yes ]] || remove
    return
  fi
  trap costs EXIT
  trap 'exit 130' INT TERM
  got_on || true
  for ((number = 1; number <= options[attempts]; number++)); do
    code=0
    attempt || code=$?
    case $code in
      0)
        finish 0
        return
        ;;
      3) return "$ending" ;;
      75) ;;
      *)
        echo "$program: $why (exit code $code): the same command would fail again." >&2
        finish "$code"
        return
        ;;
    esac
    if got_on; then failures=0; fi
    if ((++failures == 3)); then
      echo "$program: gave up: three failures without a newer checkpoint in ${options[workdir]}; the last: $why." >&2
      finish 1
      return
    fi
    ((number < options[attempts])) || break
    echo "$program: $why; attempt $((number + 1)) of ${options[attempts]} ..."
    pause
  done
  echo "$program: gave up after ${options[attempts]} attempts; the same command goes on." >&2
  finish 75
}
