"""The commands `python -m cmpe_jax.tools.NAME`, one folder each, and what they share."""
