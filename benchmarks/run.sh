#!/usr/bin/env bash
# Measures what the tables of docs/speed.md show, writes benchmarks/NAME.json, and then the tables: benchmarks/run.sh [NAME ...]
# Without names: all of them. Leave the machine alone meanwhile. PYTHON: the one to use; default: .venv/bin/python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-.venv/bin/python}

# Every order, gate and form for inference; training, whose programs take minutes each, for three gates. Goes on where it stopped.
costs_imagenet50() {
  local network=(--config=configs/imagenet_cmpe50.py --config.batch_size=64 --topology=v5e:2x4 '--orders=pre,post')
  "$PYTHON" -m cmpe_jax.tools.benchmark step "${network[@]}" --modes=infer --json=benchmarks/costs_imagenet50.json
  "$PYTHON" -m cmpe_jax.tools.benchmark step "${network[@]}" --gates=none,se,pair_1x1 --json=benchmarks/costs_imagenet50.json
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
  "$PYTHON" -m benchmarks.first_step --config configs/cifar10_resnet164.py configs/cifar10_resnet110.py \
    --json=benchmarks/first_step.json
}

# IMAGES: a folder with JPEG photos.
input() {
  "$PYTHON" -m cmpe_jax.tools.benchmark input --images="${IMAGES:?a folder with JPEG photos}" --json=benchmarks/input.json
}

every=(costs_imagenet50 times_resnet164 times_imagenet50 peer first_step input)
for name in "${@:-${every[@]}}"; do
  if [[ " ${every[*]} " != *" $name "* ]]; then
    echo "$name is none of: ${every[*]}" >&2
    exit 2
  fi
  "$name"
  "$PYTHON" -m benchmarks.tables
done
