"""What arXiv 1807.08920 prints about its networks, to stand beside our numbers."""

import ml_collections

# Millions of parameters by (backbone, block, depth, width) and gate.
PARAMETERS = {
  ('resnet', 'basic', 110, 1): {'none': 1.7, 'se': 1.75, 'pair_1x1': 1.76},
  ('resnet', 'bottleneck', 164, 1): {'none': 1.7, 'se': 1.95, 'double_fc': 2.12, 'pair_1x1': 2.04, 'pair_2x1': 1.95},
  ('wide_resnet', 'basic', 16, 8): {'pair_1x1': 11.1},
  ('wide_resnet', 'basic', 22, 10): {'none': 26.8, 'se': 27.0, 'pair_1x1': 27.1},
  ('wide_resnet', 'basic', 28, 10): {'none': 36.5, 'se': 36.8, 'double_fc': 37.0, 'pair_1x1': 36.9, 'pair_2x1': 36.8},
}
NOTE = (
  "the paper's: millions, as arXiv 1807.08920 prints them, for 10 classes. Those of the Wide ResNets count the running "
  "statistics too; no way of counting gives those of ResNet-164's gates exactly, but all are within 3 %."
)


def parameters(config: ml_collections.ConfigDict) -> dict[str, float]:
  """The figures for the network of `config.model`, by gate; {} if the paper has none."""
  if config.gate_bias:
    return {}
  return PARAMETERS.get((config.backbone, config.block, config.depth, config.width), {})
