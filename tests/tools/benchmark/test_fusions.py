"""Which part of the network the operations of a compiled program belong to."""

import pytest

from cmpe_jax.tools.benchmark import fusions

TEXT = """
%fused_computation (p: bf16[4,8]) -> bf16[4,8] {
  %big = f32[1000,1000]{1,0} negate(%p), metadata={op_name="jit(call)/ResNet/stem/neg"}
}

ENTRY %main (a: bf16[4,8], w: f32[3]) -> bf16[4,8] {
  %a = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %w = f32[3]{0:T(128)} parameter(1)
  %copy-start = (f32[3]{0:T(128)S(1)}, f32[3]{0:T(128)}, u32[]{:S(2)}) copy-start(%w)
  %copy-done = f32[3]{0:T(128)S(1)} copy-done(%copy-start)
  %fusion.1 = (bf16[4,8]{0,1:T(8,128)(2,1)S(1)}, f32[]{:T(128)}) fusion(%a, %copy-done), kind=kLoop, calls=%fused_computation, metadata={op_name="jit(call)/transpose(jvp(ResNet))/ResNet.run_stage/stage2_block3/stage2_block3.compete/gate/gate.excite/excite/dot_general" stack_frame_id=9}
  %get-tuple-element = bf16[4,8]{0,1:T(8,128)(2,1)S(1)} get-tuple-element(%fusion.1), index=0
  ROOT %add.2 = bf16[4,8]{1,0:T(8,128)(2,1)} add(%a, %get-tuple-element), metadata={op_name="jit(call)/ResNet/ResNet.embed/stem/add"}
}
"""  # noqa: E501


def test_operations_are_summed_by_place():
  tile = 2 * 8 * 128  # [4, 8] fills a tile of 8 x 128, whichever axis is the minor one
  assert fusions.groups(TEXT) == {
    'copies': {'count': 1, 'size': 4 * 128 + 4 * 128 + 4, 'outside': 4 * 128},
    'grad stage2 later gate': {'count': 1, 'size': 2 * tile + 4 + 4 * 128, 'outside': tile + 4},
    'stem': {'count': 1, 'size': 3 * tile, 'outside': 2 * tile},
  }


@pytest.mark.parametrize(
  ('operation', 'place'),
  [
    (
      'jit(call)/ResNet/ResNet.run_stage/stage1_block0/stage1_block0.identity_or_projection/shortcut/conv',
      'stage1 first shortcut',
    ),
    ('jit(call)/ResNet/ResNet.run_stage/stage1_block2/stage1_block2.compete/add', 'stage1 later sum'),
    ('jit(call)/transpose(jvp(ResNet))/ResNet.embed/stem_bn/reduce_sum', 'grad stem_bn'),
    ('jit(call)/ResNet/reduce_sum', 'ends'),
    (r'variables[\'params\'][\'stage3_block0\'][\'conv1\'][\'kernel\']', 'stage3 first conv1'),
    ("state.batch_stats['stem_bn']['mean']", 'stem_bn'),
    (
      'jit(call)/ResNet/ResNet.run_stage/stage2_block1/stage2_block1.compete/gate/gate.dense/squeeze/dot',
      'stage2 later gate',
    ),
    (
      'jit(call)/transpose(jvp(ResNet))/stage1_block1/stage1_block1.compete/transpose(jvp())/conv_general_dilated',
      'grad stage1 later sum',
    ),
    ('jit(call)/mul', 'other'),
    ('', 'other'),
  ],
)
def test_places(operation, place):
  assert fusions.place(operation) == place
