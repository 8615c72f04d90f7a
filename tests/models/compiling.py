"""`python compiling.py CHIP BLOCK ORDER GATE FORM MODE`: compiles a network for a chip.

It says how many times the bytes of one map of the stem the network moves. A program of its own, whose memory ends with
it: the TPU's compiler keeps what it has taken, 19 GB after 40 programs.
"""

import sys

import jax.numpy as jnp

from cmpe_jax import config as configuration
from cmpe_jax.models import builder
from cmpe_jax.tools.benchmark import programs
from cmpe_jax.tools.shared import chips, hlo

TOPOLOGY = {'h100': 'h100:1', 'v5e': 'v5e:2x2'}
BATCH = {'h100': 256, 'v5e': 64}  # whether a GPU's product finds tiles depends on the size


def main(chip, block, *setting):
  """An identity in the first stage, a projection in every stage, strided from the second one on."""
  target = chips.devices(TOPOLOGY[chip])[0][0]
  builder.IMAGENET_STAGES = {block: {1: (2, 1, 1, 1)}}
  config = configuration.base()
  config.model.update({'backbone': 'imagenet_resnet', 'block': block, 'depth': 1})
  config.update({'dataset': 'imagenet2012', 'dtype': 'bfloat16', 'batch_size': BATCH[chip]})
  lowered = programs.program(config, programs.Setting(*setting), target).lower(chips.platform(target))
  stem = BATCH[chip] * 112 * 112 * 64 * jnp.dtype(config.dtype).itemsize
  print(hlo.moved(lowered.compile().as_text()) / stem)


if __name__ == '__main__':
  main(*sys.argv[1:])
