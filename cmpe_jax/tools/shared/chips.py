"""Published figures of accelerator chips, and the devices of a topology that need not exist."""

import dataclasses
import os
import re

import jax
from jax.experimental import topologies

from cmpe_jax.errors import UserError

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


CHIPS = {
  'v5e': Chip(16 * 2**30, 819e9, 197e12, 'docs.cloud.google.com/tpu/docs/v5e'),
  'v5p': Chip(95 * 2**30, 2765e9, 459e12, 'docs.cloud.google.com/tpu/docs/v5p'),
  'v6e': Chip(32 * 2**30, 1638e9, 918e12, 'docs.cloud.google.com/tpu/docs/v6e'),
}


def devices(topology: str) -> tuple[list[jax.Device], Chip | None]:
  """The devices of 'v5e:4x4' (described, not connected) or of 'cpu:8' (fake ones of this CPU), and their chip.

  Call it before anything else asks JAX for devices.

  Raises:
    UserError: not such a topology; the TPU compiler is not installed.
  """
  kind, _, shape = topology.partition(':')
  if kind == 'cpu' and re.fullmatch(r'[1-9]\d*', shape):
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', int(shape))
    return jax.devices(), None
  if kind not in CHIPS or not re.fullmatch(r'\d+(x\d+){1,2}', shape):
    names = ', '.join(CHIPS)
    raise UserError(f'--topology={topology} is not known: give v5e:4x4 (one of {names}, and its chips) or cpu:8.')
  jax.config.update('jax_platforms', 'cpu')
  for name, value in _NO_MACHINE.items():
    os.environ.setdefault(name, value)
  try:
    return list(topologies.get_topology_desc(topology, 'tpu').devices), CHIPS[kind]
  except (RuntimeError, ValueError) as error:
    if 'not installed' in str(error):
      raise UserError(
        f'--topology={topology} needs the TPU compiler: run pip install -r requirements-plan.txt in the environment of '
        'this command.'
      ) from error
    raise UserError(f'--topology={topology} cannot be: {str(error).splitlines()[0]}') from error
