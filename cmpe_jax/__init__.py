"""Competitive Inner-Imaging Squeeze-and-Excitation (CMPE-SE) for residual networks, in JAX and Flax."""


def __getattr__(name: str):
  """`cmpe_jax.load_model`, imported when first used: `import cmpe_jax` itself costs nothing."""
  if name == 'load_model':
    from cmpe_jax.load import load_model

    return load_model
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
