"""The names that a configuration can choose from. Imports nothing: flags need them before JAX is loaded."""

GATES = {
  'none': '',
  'se': 'squeeze_excite.SqueezeExcite',
  'double_fc': 'double_fc.DoubleFC',
  'pair_1x1': 'pair_view.PairView1x1',
  'pair_2x1': 'pair_view.PairView2x1',
  'folded_3x3': 'folded.FoldedInnerImaging',
  'eca': 'efficient.EfficientChannelAttention',
  'ge': 'gather_excite.GatherExcite',
}
"""Each gate and the class that computes it, below `cmpe_jax.models.gates`; every list of gates follows from here."""
GATE_FORMS = ('fused', 'reference')
BACKBONES = ('resnet', 'wide_resnet', 'imagenet_resnet')
BLOCKS = ('basic', 'bottleneck')
DTYPES = ('float32', 'bfloat16', 'float64')
SCHEDULES = ('step', 'cosine', 'linear', 'constant')
AUGMENTATIONS = ('', 'none', 'crop', 'crop_flip', 'random_resized')
DECAYS = ('kernels', 'all')
CHECKPOINTS = ('best', 'newest')
SPLIT_BY = ('path', 'position')
HELD_OUT_BY = ('class', 'position')
ORIENTATIONS = ('', 'exif', 'stored')
PIXEL_STATISTICS = ('dataset', 'own')
INTERPOLATIONS = ('bilinear', 'bicubic', 'four_pixels')
SPLITS = ('train', 'validation', 'test')

# What version 1.0 called values of keys; configurations that were saved then are read by these.
RENAMED = {('model.gate_form', 'exact'): 'fused', ('model.gate_form', 'plain'): 'reference'}


def current(key: str, value: object) -> object:
  """The value of a configuration key as it is called today."""
  return RENAMED.get((key, value), value) if isinstance(value, str) else value
