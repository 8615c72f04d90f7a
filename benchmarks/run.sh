#!/usr/bin/env bash
# Measures what the tables of docs/speed.md show, writes benchmarks/NAME.json, and then the tables: benchmarks/run.sh [NAME ...]
# Without names: all of them. Leave the machine alone meanwhile. PYTHON: the one to use; default: .venv/bin/python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-.venv/bin/python}

# A ResNet-50 for one chip that need not be there, NAME TOPOLOGY BATCH: every order, gate and form for inference; training, whose
# programs take minutes each, for three gates. Goes on where it stopped.
costs() {
  local network=(--config=configs/imagenet_cmpe50.py "--config.batch_size=$3" "--topology=$2" '--orders=pre,post')
  network+=("--json=benchmarks/$1.json")
  "$PYTHON" -m cmpe_jax.tools.benchmark step "${network[@]}" --modes=infer
  "$PYTHON" -m cmpe_jax.tools.benchmark step "${network[@]}" --modes=train --gates=none,se,pair_1x1
}

costs_imagenet50_h100() {
  costs costs_imagenet50_h100 h100:1 256
}

costs_imagenet50_v5e() {
  costs costs_imagenet50_v5e v5e:2x4 64
}

# What the paper's networks for CIFAR take on a GPU at least; docs/results.md says it beside the cells that are open.
plans() {
  local net
  for net in resnet110 resnet164 wrn16_8 wrn22_10 wrn28_10; do
    "$PYTHON" -m cmpe_jax.tools.plan "--config=configs/cifar10_$net.py" --topology=h100:1 "--json=docs/results/plans/$net.json"
  done
  "$PYTHON" -m cmpe_jax.tools.board
}

times_resnet164() {
  "$PYTHON" -m cmpe_jax.tools.benchmark step --config=configs/cifar10_resnet164.py --config.batch_size=64 \
    --gates=none,se,pair_1x1 --json=benchmarks/times_resnet164.json
}

times_imagenet50() {
  "$PYTHON" -m cmpe_jax.tools.benchmark step --config=configs/imagenet_cmpe50.py --config.batch_size=8 \
    --config.dtype=float32 --gates=none,se,pair_1x1 --json=benchmarks/times_imagenet50.json
}

# TORCH_PYTHON: the Python that has torch and timm, if another one.
peer() {
  "$PYTHON" -m benchmarks.peer --json=benchmarks/peer.json --torch_python="${TORCH_PYTHON:-$PYTHON}"
}

first_step() {
  "$PYTHON" -m benchmarks.first_step --config configs/cifar10_resnet164.py --rounds=10 --json=benchmarks/first_step.json
}

# IMAGES: a folder with JPEG photos.
input() {
  "$PYTHON" -m cmpe_jax.tools.benchmark input --images="${IMAGES:?a folder with JPEG photos}" --json=benchmarks/input.json
}

every=(costs_imagenet50_h100 costs_imagenet50_v5e times_resnet164 times_imagenet50 peer first_step input plans)
for name in "${@:-${every[@]}}"; do
  if [[ " ${every[*]} " != *" $name "* ]]; then
    echo "$name is none of: ${every[*]}" >&2
    exit 2
  fi
  "$name"
  "$PYTHON" -m benchmarks.tables
done
