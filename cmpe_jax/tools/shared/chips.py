"""Published figures of accelerator chips, and the devices of a topology that need not exist."""

import dataclasses
import os
import re

import jax
from jax.experimental import topologies

from cmpe_jax.errors import UserError
from cmpe_jax.tools.shared import gpus

# libtpu asks a metadata server which machine this is, and locks the chips, unless told otherwise. Only its compiler is
# wanted here.
_NO_MACHINE = {
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
  'TPU_WORKER_HOSTNAMES': 'localhost',
}


@dataclasses.dataclass(frozen=True)
class Chip:
  """What its maker publishes.

  Attributes:
    memory: bytes.
    bandwidth: of the memory, bytes/s.
    flops: peak of bfloat16 matrix products, 1/s.
    source: where the figures stand.
  """

  memory: int
  bandwidth: float
  flops: float
  source: str


TPUS = {
  'v5e': Chip(16 * 2**30, 819e9, 197e12, 'docs.cloud.google.com/tpu/docs/v5e'),
  'v5p': Chip(95 * 2**30, 2765e9, 459e12, 'docs.cloud.google.com/tpu/docs/v5p'),
  'v6e': Chip(32 * 2**30, 1638e9, 918e12, 'docs.cloud.google.com/tpu/docs/v6e'),
}
# NVIDIA's tables have twice these FLOPs, for matrices of which half is zero. All are the SXM modules.
GPUS = {
  'a100': Chip(80 * 10**9, 2039e9, 312e12, 'www.nvidia.com/en-us/data-center/a100'),
  'h100': Chip(80 * 10**9, 3350e9, 989.5e12, 'www.nvidia.com/en-us/data-center/h100'),
  'h200': Chip(141 * 10**9, 4800e9, 989.5e12, 'www.nvidia.com/en-us/data-center/h200'),
  'b200': Chip(180 * 10**9, 7700e9, 2250e12, 'www.nvidia.com/en-us/data-center/hgx'),
}
CHIPS = TPUS | GPUS


def devices(topology: str) -> tuple[list[jax.Device], Chip | None]:
  """The devices of 'v5e:4x4' or 'h100:8' (described, not connected) or 'cpu:8' (fake ones of this CPU), and their chip.

  Call it before anything else asks JAX for devices.

  Raises:
    UserError: not such a topology; the compiler is not installed.
  """
  kind, _, shape = topology.partition(':')
  number = int(shape) if re.fullmatch(r'[1-9]\d*', shape) else 0
  if kind == 'cpu' and number:
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', number)
    return jax.devices(), None
  if not (kind in GPUS and number) and not (kind in TPUS and re.fullmatch(r'\d+(x\d+){1,2}', shape)):
    raise UserError(
      f'--topology={topology} is not known: give v5e:4x4 (one of {", ".join(TPUS)}, and its chips), h100:8 (one of '
      f'{", ".join(GPUS)}, and how many) or cpu:8.'
    )
  jax.config.update('jax_platforms', 'cpu')
  return _gpus(kind, number) if number else _tpus(topology), CHIPS[kind]


def platform(device: jax.Device) -> str:
  """What lowering calls the device's platform: 'cpu', 'cuda' or 'tpu'."""
  return 'cuda' if device.platform == 'gpu' else device.platform


def _tpus(topology: str) -> list[jax.Device]:
  for name, value in _NO_MACHINE.items():
    os.environ.setdefault(name, value)
  try:
    return list(topologies.get_topology_desc(topology, 'tpu').devices)
  except (RuntimeError, ValueError) as error:
    if 'not installed' in str(error):
      raise _missing(topology, 'TPU', 'requirements-plan.txt') from error
    raise UserError(f'--topology={topology} cannot be: {str(error).splitlines()[0]}') from error


def _gpus(kind: str, number: int) -> list[jax.Device]:
  hosts, rest = divmod(number, gpus.A_HOST) if number > gpus.A_HOST else (1, 0)
  if rest:
    raise UserError(
      f'--topology={kind}:{number} cannot be: a host has {gpus.A_HOST} of them, so more than {gpus.A_HOST} must be a '
      'multiple of it.'
    )
  chip, shape = GPUS[kind], f'1x{hosts}x{number // hosts}'
  text = gpus.target(gpus.GPUS[kind], chip.memory, chip.bandwidth)
  try:
    return list(topologies.get_topology_desc(platform='cuda', target_config=text, topology=shape).devices)
  except RuntimeError as error:
    if 'topology not implemented' not in str(error):  # so JAX says that it has no such plugin
      raise
    raise _missing(f'{kind}:{number}', 'GPU', 'requirements-plan-gpu.txt') from error


def _missing(topology: str, kind: str, file: str) -> UserError:
  return UserError(
    f'--topology={topology} needs the {kind} compiler: run pip install -r {file} in the environment of this command.'
  )
