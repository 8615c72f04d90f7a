"""TensorBoard's HParams page, by TensorBoard's own reader."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from cmpe_jax import config as configuration
from cmpe_jax.tools.compare import cells, hyperparameters
from cmpe_jax.tools.compare import command as compare
from cmpe_jax.tools.compare.comparison import Comparison


def test_tensorboard_reads_what_was_set_and_what_came_out(tmp_path):
  config, variants = configuration.load('digits'), compare.gate_variants(['none', 'eca'])
  planned = cells.plan(config, variants, 2, tmp_path)
  comparison = Comparison('digits', config, variants, planned)
  result = {'accuracy': 0.9, 'loss': 0.25, 'count': 364, 'seconds': 60.0, 'images': 28672}
  comparison.add([{'variant': 'eca', 'seed': 1, **result}])
  (cell,) = [cell for cell in planned if str(cell) == 'eca, seed 1']
  for _ in range(2):  # the second time replaces the first
    hyperparameters.write(comparison, cell, tmp_path)
  (file,) = (tmp_path / 'hparams').rglob('events.out.tfevents.*')
  assert file.parent == tmp_path / 'hparams' / 'eca' / 'seed1'
  reader = EventAccumulator(str(file.parent))
  reader.Reload()
  tags = {tag: reader.SummaryMetadata(tag).plugin_data for tag in reader.PluginTagToContent(metadata.PLUGIN_NAME)}
  assert tags.keys() == {metadata.EXPERIMENT_TAG, metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG}
  begun = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG].content).hparams
  assert begun['model.gate'].string_value == 'eca'
  assert begun['seed'].number_value == 1
  assert begun['learning_rate'].number_value == 0.05
  assert 'momentum' not in begun  # it has its default
  experiment = metadata.parse_experiment_plugin_data(tags[metadata.EXPERIMENT_TAG].content)
  assert {info.name.tag for info in experiment.metric_infos} == {'test/accuracy', 'test/loss', 'train/seconds'}
  assert [(event.step, round(event.value, 6)) for event in reader.Scalars('test/accuracy')] == [(896, 0.9)]
  assert sorted(reader.Tags()['scalars']) == ['test/accuracy', 'test/loss', 'train/seconds']
