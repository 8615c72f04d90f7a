"""What programs for a CPU are compiled with."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from cmpe_jax.runtime import compiler
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.training import step

LIBRARY_CALL = '__ynn_fusion'
X = jnp.ones((2, 8, 8, 64))
KERNEL = jnp.ones((3, 3, 64, 64))


def train_step(kernel, batch):
  def loss(kernel):
    y = jax.lax.conv_general_dilated(batch, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return jnp.square(y).sum()

  return jax.grad(loss)(kernel), {}


@pytest.fixture
def known():
  compiler._known.cache_clear()
  yield
  compiler._known.cache_clear()


def options():
  return compiler.options(meshes.make(jax.devices()[:1]))


def lowered():
  mesh = meshes.make(jax.devices()[:1])
  call = step.compile_train(train_step, lambda resident, drawn: drawn, mesh, options())
  return call.lower(KERNEL, {}, X[None])


def entry(text):
  """What is called one after the other, without the insides of it."""
  return text.split('ENTRY', 1)[1]


def test_the_kernel_gradient_of_a_training_step_is_no_call_of_the_library(known):
  assert ' convolution(' in entry(lowered().compile().as_text())
  gradient = jax.jit(lambda kernel: train_step(kernel, X)).lower(KERNEL).compile().as_text()
  # As long as XLA gives it to the library by itself. Else the option is not needed.
  assert ' convolution(' not in entry(gradient)
  assert LIBRARY_CALL in entry(gradient)


def test_another_version_that_does_not_know_the_option_compiles_without(known, monkeypatch):
  monkeypatch.setattr(compiler, 'OWN_CONVOLUTIONS', {'xla_cpu_no_such_option': 'x'})
  assert options() == {}
  lowered().compile()


def test_xla_flags_go_before(known, monkeypatch):
  assert list(options()) == [compiler.LIBRARY]
  monkeypatch.setenv('XLA_FLAGS', f'--{compiler.LIBRARY}=')
  assert options() == {}


def test_the_cache_keeps_programs_of_other_options_apart(tmp_path):
  code = """
import pathlib, sys
import jax
jax.config.update('jax_compilation_cache_dir', sys.argv[1])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
from cmpe_jax.runtime import compiler
program = jax.jit(lambda x: x + 1).lower(1.0)
for options in ({}, compiler.OWN_CONVOLUTIONS, {}, compiler.OWN_CONVOLUTIONS):
  program.compile(compiler_options=options)
print(len([file for file in pathlib.Path(sys.argv[1]).iterdir() if file.name.endswith('-cache')]))
"""
  done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True, check=True)
  assert done.stdout.split() == ['2']
