"""The keys of the configuration: default, meaning, range, and whether a resumed run may change them."""

import dataclasses

from cmpe_jax import names


@dataclasses.dataclass(frozen=True)
class Key:
  """What is known of a key.

  Attributes:
    default: its value where a configuration says nothing, and its type.
    meaning: for people.
    low: smallest value of a number; None: any.
    high: largest value of a number; None: any.
    choices: the values that it can have; empty: any.
    free: a run can go on from its checkpoint with another value: what its steps compute stays the same, up to rounding.
    before: what configurations that were saved before the key existed mean; None: the default.
  """

  default: object
  meaning: str
  low: float | None = None
  high: float | None = None
  choices: tuple[str, ...] = ()
  free: bool = False
  before: object = None


MODEL = {
  'backbone': Key(
    'resnet',
    "'resnet' and 'wide_resnet' are for small images, 'imagenet_resnet' for large ones",
    choices=names.BACKBONES,
  ),
  'depth': Key(164, 'layers, as the network is named after them'),
  'width': Key(1, 'widening factor of a Wide ResNet', low=1),
  'block': Key('bottleneck', 'Wide ResNets are basic', choices=names.BLOCKS),
  'gate': Key('pair_1x1', 'what scales the residual', choices=tuple(names.GATES)),
  'gate_form': Key(
    'fused',
    "'reference': as the paper writes it; 'fused': the same numbers from fewer bytes",
    choices=names.GATE_FORMS,
    free=True,
  ),
  'gate_bias': Key(False, "biases in the gate's dense layers (the paper has none)"),
  'num_classes': Key(0, "0: the dataset's", low=0),
  'preact': Key(True, 'pre-activation blocks; ImageNet nets: False is ResNet v1.5'),
  'dropout': Key(0.0, 'between the convolutions of a Wide ResNet block', 0, 0.99),
  'blur_pool': Key(False, 'strided convolutions of 16 channels or more see a blurred map (BlurPool, as in ffcv)'),
  'zero_init': Key(False, 'the last batch normalization of each post-activation branch starts with scale 0'),
  'fold_columns': Key(0, "columns of the folded map; 0: the paper's choice", low=0),
  'scan_blocks': Key(
    False, 'the equal blocks of a stage run in a loop: compiles faster; on a CPU it is far slower', free=True
  ),
}

KEYS = {
  'seed': Key(0, 'of initial weights, batches, augmentation, mixup and dropout', low=0, high=2**32 - 1),
  'dataset': Key('digits', "'digits', 'cifar10', 'cifar100', 'svhn_cropped', 'imagenet2012', or 'folder:PATH'"),
  'data_dir': Key('', "where prepared datasets lie; '': TFDS's default (~/tensorflow_datasets)", free=True),
  'image_size': Key(0, "side of the square images that the net sees; 0: the dataset's", low=0),
  'train_image_sizes': Key(
    (), 'sides of the random-resized crops of training, one after the other; (): image_size, as in evaluations'
  ),
  'train_size_fractions': Key((), 'of the run, after which the next of train_image_sizes begins'),
  'validation': Key(0.0, 'part of the training split held out to choose the best checkpoint; 0: none', 0, 0.9),
  'split_seed': Key(0, 'which examples are held out (and the test part of a folder without a test sub-folder)', low=0),
  'split_by': Key(
    'path',
    "what decides which images of a folder without a test sub-folder are its test part: 'path': each one's own path, "
    "whatever else lies there; 'position': their order, as before version 1.1",
    choices=names.SPLIT_BY,
    before='position',
  ),
  'held_out_by': Key(
    'class',
    "'class': `validation` is a part of each class (of ImageNet, whose labels lie inside of its records, of all "
    "images); 'position': of all images, drawn as before version 1.1",
    choices=names.HELD_OUT_BY,
    before='position',
  ),
  'svhn_extra': Key(True, 'SVHN trains on train + extra (604,388 images) instead of train (73,257)'),
  'augmentation': Key('', "'': the dataset's", choices=names.AUGMENTATIONS),
  'train_interpolation': Key(
    'four_pixels',
    "of random-resized crops: 'four_pixels' (each pixel from the nearest four: fast), or 'bilinear' or 'bicubic', "
    'which average over all pixels of a large photo',
    choices=names.INTERPOLATIONS,
  ),
  'eval_flip': Key(False, 'evaluations, `predict` and `export` average the logits of an image and of its mirror image'),
  'eval_interpolation': Key(
    'bilinear',
    "of centre crops: 'bilinear' or 'bicubic', as torchvision and timm do it; 'four_pixels': as before version 1.1",
    choices=names.INTERPOLATIONS,
    before='four_pixels',
  ),
  'eval_crop': Key(224 / 256, 'part of the shorter side that a centre crop shows', 0.01, 1),
  'orientation': Key(
    '',
    "of photos: 'exif': upright, as their EXIF blocks say; 'stored': as their pixels lie; '': 'exif' for folders, "
    "'stored' for other datasets, as torchvision and timm do",
    choices=names.ORIENTATIONS,
    before='stored',
  ),
  'pixel_mean': Key((), "of red, green and blue on the scale 0..1, which a network is shown as 0; (): the dataset's"),
  'pixel_std': Key((), "of the same, which a network is shown as 1; (): the dataset's"),
  'pixel_statistics': Key(
    'dataset',
    "where pixel_mean and pixel_std are (): 'dataset': its usual ones, of a folder ImageNet's; 'own': those of the "
    'training part, measured once at the start',
    choices=names.PIXEL_STATISTICS,
  ),
  'stored_side': Key(
    0, 'imagenet2012: shorter side of the images stored by data.prepare --shorter_side; 0: originals', low=0
  ),
  'resident_megabytes': Key(2048, 'decoded datasets up to this size lie on the device as a whole', low=0, free=True),
  'input_threads': Key(
    0, 'of each process that reads; 0: one a core, at most 16 (with input_processes: 1)', low=0, free=True
  ),
  'input_processes': Key(0, 'processes that read; 0: threads of the training process', low=0, free=True),
  'init_from': Key(
    '', "weights that the first step starts from: a workdir, or as of `from_pretrained`; '': random ones"
  ),
  'architecture': Key(
    '',
    "of converted weights: what their source calls them, such as 'resnet50.a1_in1k'; runs on them show images as "
    'they were converted for',
    free=True,
  ),
  'freeze': Key(0, 'fine-tuning: the stem and so many stages keep their values and running statistics', low=0),
  'dtype': Key(
    'float32', "of the convolutions; all else is in float32, and with 'float64' in float64", choices=names.DTYPES
  ),
  'batch_size': Key(128, 'global', low=1),
  'accumulate_steps': Key(1, 'micro-batches a step; each has its own batch normalization statistics', low=1),
  'remat': Key(False, 'less memory: the gradient of a block computes its inner arrays again', free=True),
  'bn_group_size': Key(0, 'examples that share batch normalization statistics; 0: the global (micro-)batch', low=0),
  'eval_batch_size': Key(0, 'global; 0: batch_size', low=0, free=True),
  'epochs': Key(200.0, 'of the whole run', low=0, free=True),
  'learning_rate': Key(0.1, 'after the warm-up', low=0),
  'learning_rate_batch_size': Key(0, '0: the rate is as given; else it is multiplied by batch_size / this', low=0),
  'schedule': Key(
    'step',
    "of the learning rate: 'step' falls at decay_fractions, 'cosine' and 'linear' go to 0 at the end",
    choices=names.SCHEDULES,
  ),
  'warmup_epochs': Key(0.0, 'the rate rises linearly from warmup_start', low=0),
  'warmup_start': Key(0.0, 'part of the rate that the warm-up begins with', 0, 1),
  'decay_fractions': Key((0.5, 0.75), "of the run, after which the rate falls (schedule='step')"),
  'decay_epochs': Key((), 'the same in epochs, instead of decay_fractions'),
  'decay_factor': Key(0.1, 'by which the rate is multiplied then', low=0),
  'momentum': Key(0.9, 'of SGD', 0, 1),
  'nesterov': Key(True, "Nesterov's momentum"),
  'weight_decay': Key(1e-4, 'added to the gradient, times the parameter', low=0),
  'decay_parameters': Key(
    'kernels', "'kernels': convolutions and dense layers; 'all': every parameter", choices=names.DECAYS
  ),
  'grad_clip_norm': Key(0.0, 'global norm of the gradient at most; 0: off', low=0),
  'label_smoothing': Key(0.0, 'part of the target that is spread over all classes', 0, 1),
  'mixup_alpha': Key(0.0, 'of the Beta distribution of mixup; 0: off', low=0),
  'ema_decay': Key(0.0, 'moving averages of parameters and statistics, evaluated besides; 0: off', 0, 0.999999),
  'steps_per_call': Key(1, 'training steps per dispatch to the device', low=1, free=True),
  'log_every_steps': Key(50, 'steps between two lines of the console', low=1, free=True),
  'eval_every_steps': Key(0, '0: once an epoch', low=0, free=True),
  'checkpoint_every_steps': Key(0, '0: once an epoch', low=0, free=True),
  'keep_checkpoints': Key(2, 'the newest ones; the best one is kept besides', low=1, free=True),
}

ALL = KEYS | {f'model.{name}': key for name, key in MODEL.items()}
BEFORE = {name: key.default if key.before is None else key.before for name, key in ALL.items()}
"""The values of keys that a configuration saved by an older version does not have."""
SHOWN = ('architecture', 'image_size', 'pixel_mean', 'pixel_std', 'eval_crop', 'eval_interpolation')
"""The keys that come with converted weights: what they are called, and how images are shown to them."""
MEASURED = ('pixel_statistics', 'pixel_mean', 'pixel_std')
"""The keys that a run fills in where it measures its images."""
