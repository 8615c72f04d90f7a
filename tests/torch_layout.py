"""Networks in the layout of PyTorch's ResNets: their configuration here, random weights there and in a file."""

import numpy as np

from cmpe_jax import config as configuration


def network(**model):
  config = configuration.model()
  config.update({'backbone': 'imagenet_resnet', 'preact': False, 'gate': 'none', 'depth': 18, 'block': 'basic'} | model)
  return config


def randomized(torch, model):
  """Every parameter and statistic away from its initial value, of a size that keeps activations near 1."""
  generator = torch.Generator().manual_seed(0)

  def random(shape, low, high):
    return torch.rand(shape, generator=generator) * (high - low) + low

  state = model.state_dict()
  for name, tensor in state.items():
    if name.endswith('running_var') or (name.endswith('weight') and tensor.ndim == 1):
      state[name] = random(tensor.shape, 0.7, 1.3)
    elif name.endswith(('running_mean', 'bias')):
      state[name] = random(tensor.shape, -0.3, 0.3)
  model.load_state_dict(state)
  return model.eval()


def state_dict(config, num_classes):
  """A file's content for our network, written with the rules of PyTorch's layouts spelled out once more."""
  generator = np.random.default_rng(0)
  arrays = {
    'conv1.weight': generator.normal(size=(64, 3, 7, 7)),
    'fc.weight': generator.normal(size=(num_classes, 512)),
  }
  arrays['fc.bias'] = generator.normal(size=num_classes)

  def norm(name, channels):
    for part in ('weight', 'bias', 'running_mean', 'running_var'):
      arrays[f'{name}.{part}'] = generator.uniform(0.5, 1, channels)
    arrays[f'{name}.num_batches_tracked'] = np.array(3)

  norm('bn1', 64)
  before = 64
  for stage, width in enumerate((64, 128, 256, 512), 1):
    for block in range(2):
      place = f'layer{stage}.{block}'
      for number, channels in (('1', before), ('2', width)):
        arrays[f'{place}.conv{number}.weight'] = generator.normal(size=(width, channels, 3, 3))
        norm(f'{place}.bn{number}', width)
      if before != width:
        arrays[f'{place}.downsample.0.weight'] = generator.normal(size=(width, before, 1, 1))
        norm(f'{place}.downsample.1', width)
      before = width
  return {name: array.astype(np.int64 if array.ndim == 0 else np.float32) for name, array in arrays.items()}
