"""Competitive Inner-Imaging Squeeze-and-Excitation (CMPE-SE) for residual networks, in JAX and Flax."""
