#!/usr/bin/env bash
# Trains on a Slurm cluster with NVIDIA GPUs: submits a job that runs one process a GPU and queues itself again when the
# program says that it was interrupted (exit code 75; Slurm's warning two minutes before the time limit does that), but
# not when one of its processes ended with 1 or 2: the job ends with that code.
# Run it where the cluster's machines see this checkout, its .venv (with requirements-gpu.txt) and the workdir.
#
#   launch/slurm.sh --nodes=N --gpus-per-node=N [flags] [-- flags of cmpe_jax.main]
#
# Flags
#   --nodes=N            machines; default 1
#   --gpus-per-node=N    default 8; 0 for a cluster without GPUs
#   --tasks-per-node=N   processes of each machine without GPUs; default 1
#   --cpus-per-gpu=N     that prepare the images, or that each process has without GPUs; default 8
#   --time=TIME          limit of each part of the job, as Slurm writes it; default 24:00:00
#   --partition=NAME     default: the cluster's
#   --account=NAME       default: the user's
#   --name=NAME          of the job and of its log NAME.log; default cmpe_jax
#   --config=FILE        in this checkout
#   --workdir=PATH       on a file system that all machines share, or gs://...
#   --attempts=N         parts at most; default 100
#   --check              runs cmpe_jax.tools.check in place of the training, waits, and ends with its code
#   --dry-run            prints the command and the job's script, submits nothing
#
# Example
#   launch/slurm.sh --nodes=2 --gpus-per-node=8 --config=configs/imagenet_cmpe50.py --workdir=/shared/runs/cmpe50
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

declare -A options=(
  [nodes]=1 [gpus-per-node]=8 [tasks-per-node]='' [cpus-per-gpu]=8 [time]=24:00:00 [partition]='' [account]='' [name]=cmpe_jax
  [config]='' [workdir]='' [attempts]=100 [check]=no
)
parse "$@"
need gpus-per-node '[0-9]|[1-9][0-9]+' 'a number; 0 for a cluster without GPUs'
platform=gpu
if [[ ${options[gpus-per-node]} == 0 ]]; then
  platform=cpu
  options[tasks-per-node]=${options[tasks-per-node]:-1}
else
  [[ -z ${options[tasks-per-node]} ]] || die "--tasks-per-node=${options[tasks-per-node]} goes with --gpus-per-node=0: with GPUs there is one process a GPU."
  options[tasks-per-node]=${options[gpus-per-node]}
fi
for number in nodes tasks-per-node cpus-per-gpu attempts; do
  need "$number" '[1-9][0-9]*' 'a number of at least 1'
done
need time '([0-9]+-)?[0-9]+(:[0-9]+){0,2}' 'a time such as 24:00:00 or 2-00:00:00'
need name '[A-Za-z0-9._-]+' 'letters, digits, dots, hyphens'
need_config
need workdir '.+' 'a folder that all machines share'

job() {
  local words
  mapfile -t words < <(flags)
  cat << JOB
#!/usr/bin/env bash
cd $(quoted "$top") || exit 2
export CMPE_JAX_PLATFORM=$platform # the program ends rather than train on anything else
srun --cpus-per-task=${options[cpus-per-gpu]} --kill-on-bad-exit=0 --wait=300 bash launch/task.sh .venv/bin/python -m $(module) $(quoted "${words[@]}")
code=\$?
((code != 201 && code != 202)) || exit \$((code - 200)) # task.sh: 1 or 2, whatever the others ended with
if ((code == 75 || code >= 128)) && ((\${SLURM_RESTART_COUNT:-0} + 1 < ${options[attempts]})); then
  scontrol requeue "\$SLURM_JOB_ID"
fi
exit \$code
JOB
}

words=("--job-name=${options[name]}" "--nodes=${options[nodes]}" "--ntasks-per-node=${options[tasks-per-node]}")
[[ $platform == cpu ]] || words+=("--gpus-per-node=${options[gpus-per-node]}" --gpu-bind=none)
words+=("--cpus-per-task=${options[cpus-per-gpu]}" "--time=${options[time]}" --signal=TERM@120)
if [[ ${options[check]} == yes ]]; then
  options[attempts]=1
  words+=(--no-requeue --wait "--output=${options[name]}-check.log")
else
  words+=(--requeue --open-mode=append "--output=${options[name]}.log")
fi
[[ -z ${options[partition]} ]] || words+=("--partition=${options[partition]}")
[[ -z ${options[account]} ]] || words+=("--account=${options[account]}")

if [[ $dry_run == yes ]]; then
  echo "$(quoted sbatch "${words[@]}") << 'JOB'"
  job
  echo JOB
elif [[ ${options[check]} == yes ]]; then
  code=0
  job | sbatch "${words[@]}" || code=$?
  cat "${options[name]}-check.log" || true
  exit "$code"
else
  job | sbatch "${words[@]}"
fi
