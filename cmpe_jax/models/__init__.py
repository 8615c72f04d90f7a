"""The networks: `build(config.model)`, and `init` for their first variables."""

from cmpe_jax.models.builder import build, of_run
from cmpe_jax.models.initializers import init

__all__ = ['build', 'init', 'of_run']
