"""Families of configurations: one function per published training recipe, called by the files in `configs/`.

Primary values only: what depends on others (the learning rate of a batch, the number of steps) is derived when training
starts, so that an override on the command line changes everything that follows from it.
"""

import ml_collections

from cmpe_jax.config import base


def resnet(dataset: str, depth: int, block: str) -> ml_collections.ConfigDict:
  """CMPE-ResNet on CIFAR by the recipe of He et al. 2016, "Identity Mappings in Deep Residual Networks".

  SGD with momentum 0.9, 200 epochs of batches of 128, learning rate 0.1, divided by 10 at half and at three quarters of
  the run, weight decay 1e-4. Nesterov momentum is our choice. The paper counts 64,000 iterations, which are 164 epochs
  of 50,000 images, and divides the rate after 32,000 and 48,000 of them; ours is 200 epochs.
  """
  config = base()
  config.dataset = dataset
  config.model.update({'backbone': 'resnet', 'depth': depth, 'block': block})
  return config


def short(dataset: str, depth: int) -> ml_collections.ConfigDict:
  """A CMPE-ResNet of bottlenecks trained for 6 epochs; our own, of what short recipes have in common.

  The rate rises from 0 to 0.4 in a quarter of the run and falls to 0 in the rest, both in a line (Smith and Topin 2018,
  "Super-Convergence"); label smoothing of 0.1; weight decay 5e-4; moving averages of the weights over some 100 steps.
  The rate did best of three on a validation part of CIFAR-10: docs/results/cifar10_short.trials.txt.
  """
  config = resnet(dataset, depth, 'bottleneck')
  config.update(
    {
      'epochs': 6.0,
      'learning_rate': 0.4,
      'schedule': 'linear',
      'warmup_epochs': 1.5,
      'weight_decay': 5e-4,
      'label_smoothing': 0.1,
      'ema_decay': 0.99,
    }
  )
  return config


def wide_resnet(dataset: str, depth: int, width: int) -> ml_collections.ConfigDict:
  """CMPE-WRN on CIFAR by the recipe of Zagoruyko and Komodakis 2016, "Wide Residual Networks".

  SGD with Nesterov momentum 0.9, 200 epochs of batches of 128, learning rate 0.1, times 0.2 at 30%, 60% and 80% of the
  run, weight decay 5e-4.
  """
  config = base()
  config.dataset = dataset
  config.model.update({'backbone': 'wide_resnet', 'depth': depth, 'width': width, 'block': 'basic'})
  config.update({'weight_decay': 5e-4, 'decay_fractions': (0.3, 0.6, 0.8), 'decay_factor': 0.2})
  return config


def svhn(depth: int, width: int) -> ml_collections.ConfigDict:
  """CMPE-WRN on SVHN (train and extra) by the recipe of Zagoruyko and Komodakis 2016.

  160 epochs of batches of 128, learning rate 0.01, divided by 10 at epochs 80 and 120, dropout 0.4 inside the blocks,
  no augmentation, pixels divided by 255.
  """
  config = wide_resnet('svhn_cropped', depth, width)
  config.model.dropout = 0.4
  config.update({'epochs': 160.0, 'learning_rate': 0.01, 'decay_fractions': (0.5, 0.75), 'decay_factor': 0.1})
  return config


def imagenet(depth: int, gate: str) -> ml_collections.ConfigDict:
  """A ResNet v1.5 on ImageNet by the recipe of Goyal et al. 2017, "Accurate, Large Minibatch SGD".

  90 epochs, learning rate 0.1 per 256 images of the batch after 5 epochs of warm-up, divided by 10 at 30, 60 and 80 of
  90 epochs, weight decay 1e-4, last batch normalization of each branch started at 0. The batch of 1024 and bfloat16 are
  our choice. We depart from the paper in these points:

  * its warm-up begins at the base rate, 0.1 (`warmup_start=0.25` for a batch of 1024); ours at 0;
  * its batch normalization has statistics of the 32 images of a worker; ours of the global batch (`bn_group_size=32`
    is the paper's);
  * it decays everything but scale and bias of batch normalization; we decay kernels only, not the classifier's bias;
  * its classifier begins with a standard deviation of 0.01; ours with 1/sqrt(2048) = 0.022.
  """
  config = base()
  config.dataset = 'imagenet2012'
  config.model.update({'backbone': 'imagenet_resnet', 'depth': depth, 'preact': False, 'zero_init': True, 'gate': gate})
  config.update(
    {
      'dtype': 'bfloat16',
      'batch_size': 1024,
      'epochs': 90.0,
      'learning_rate_batch_size': 256,
      'warmup_epochs': 5.0,
      'decay_fractions': (30 / 90, 60 / 90, 80 / 90),
      'log_every_steps': 100,
    }
  )
  return config


def fast_imagenet(depth: int, gate: str, epochs: int, larger_from: int) -> ml_collections.ConfigDict:
  """A ResNet v1.5 on ImageNet in few epochs, after the ResNet-50 of ffcv (Leclerc et al. 2023, arXiv 2306.12517).

  From the configurations and the program at github.com/libffcv/ffcv-imagenet: the rate rises for 2 epochs to 1.7 for a
  batch of 4096 (512 on each of 8 GPUs) and falls linearly to 0, plain momentum 0.9, weight decay 1e-4, label smoothing
  0.1. Strided convolutions see a blurred map (BlurPool). Training sees crops of 160 pixels, from epoch `larger_from`
  (counted from 0) on of 192; evaluation sees 256, and the mirror image as well. We depart from it in these points:

  * its batch normalization has statistics of the 512 images of a GPU; ours of the global batch (`bn_group_size`);
  * it decays what is not called `bn`: biases too, and the normalizations of the shortcuts; we decay kernels only;
  * it computes in float16, ours in bfloat16;
  * it adds the logits of both images, where we take their mean: the classes rank the same, the loss is another one;
  * its images are stored with at most 500 pixels a side; ours as they are (see `stored_side`).
  """
  config = imagenet(depth, gate)
  config.model.update({'zero_init': False, 'blur_pool': True})
  config.update(
    {
      'epochs': float(epochs),
      'batch_size': 4096,
      'learning_rate': 1.7,
      'learning_rate_batch_size': 4096,
      'schedule': 'linear',
      'warmup_epochs': 2.0,
      'warmup_start': 1e-4,
      'decay_fractions': (),
      'nesterov': False,
      'label_smoothing': 0.1,
      'image_size': 256,
      'train_image_sizes': (160, 192),
      'train_size_fractions': (larger_from / epochs,),
      'eval_flip': True,
    }
  )
  return config
