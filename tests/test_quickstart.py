"""The notebook runs from top to bottom in a fresh kernel, and what it shows is true."""

import pathlib
import re
import sys

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = pathlib.Path(__file__).parent.parent / 'notebooks' / 'quickstart.ipynb'


def texts(notebook):
  """All that the cells print."""
  return ''.join(
    output.text for cell in notebook.cells for output in cell.get('outputs', []) if output.output_type == 'stream'
  )


def pictures(notebook):
  return [
    output for cell in notebook.cells for output in cell.get('outputs', []) if 'image/png' in output.get('data', {})
  ]


@pytest.mark.slow
def test_every_cell_runs_and_the_network_reads_digits(tmp_path, monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '')
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  (tmp_path / 'notebooks').mkdir()
  client = NotebookClient(notebook, timeout=500, resources={'metadata': {'path': str(tmp_path / 'notebooks')}})
  client.create_kernel_manager()
  client.km.kernel_spec.argv[0] = sys.executable
  client.execute()
  said = texts(notebook)
  accuracies = [float(value) for value in re.findall(r'test accuracy +([\d.]+)%', said)]
  assert len(accuracies) == 2
  assert min(accuracies) > 90
  assert len(pictures(notebook)) == 3
  table = re.findall(r'a_(\d)\.png +(\d) ([\d.]+)%', said)
  assert len(table) == 3
  assert all(name == read for name, read, _ in table)


def test_what_is_committed_was_executed_and_names_no_machine():
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  nbformat.validate(notebook)
  counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == 'code']
  assert counts == list(range(1, len(counts) + 1))
  assert len(pictures(notebook)) == 3
  assert not re.search(r'/(home|tmp|root|Users)/', nbformat.writes(notebook))
