"""A compiled program read as text: what moves, how many bytes, and what it sends."""

from cmpe_jax.tools.shared import hlo

# As the TPU compiler writes them: layouts with tiles, memory on the chip, a copy in the background, a fusion's inside.
TPU = """
%fused_computation (p: bf16[4,8]) -> bf16[4,8] {
  %big = f32[1000,1000]{1,0} negate(%p), metadata={op_name="jit(call)/ResNet/stem/neg"}
}

ENTRY %main (a: bf16[4,8], w: f32[3]) -> bf16[4,8] {
  %a = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %w = f32[3]{0:T(128)} parameter(1)
  %copy-start = (f32[3]{0:T(128)S(1)}, f32[3]{0:T(128)}, u32[]{:S(2)}) copy-start(%w)
  %copy-done = f32[3]{0:T(128)S(1)} copy-done(%copy-start)
  %fusion.1 = (bf16[4,8]{0,1:T(8,128)(2,1)S(1)}, f32[]{:T(128)}) fusion(%a, %copy-done), kind=kLoop, calls=%fused_computation, metadata={op_name="jit(call)/ResNet/stem/mul" stack_frame_id=9}
  %get-tuple-element = bf16[4,8]{0,1:T(8,128)(2,1)S(1)} get-tuple-element(%fusion.1), index=0
  ROOT %add.2 = bf16[4,8]{1,0:T(8,128)(2,1)} add(%a, %get-tuple-element), metadata={op_name="jit(call)/ResNet/stem/add"}
}
"""  # noqa: E501

# As the GPU compiler does: convolutions are calls of cuDNN with scratch memory, an all-reduce gives its result at once.
GPU = """
%fused_reduce (param_0.6: bf16[8,56,56,64]) -> bf16[8,64] {
  %convert = f32[8,56,56,64]{3,2,1,0} convert(%param_0.6)
}

ENTRY %main.3 (x.1: bf16[8,56,56,64], w.1: bf16[3,3,64,64]) -> bf16[8,64] {
  %w.1 = bf16[3,3,64,64]{3,2,1,0} parameter(1), sharding={replicated}, metadata={op_name="w"}
  %x.1 = bf16[8,56,56,64]{3,2,1,0} parameter(0), metadata={op_name="x" scheduling_name="x.1"}
  %wrapped_transpose = bf16[64,3,3,64]{3,2,1,0} fusion(%w.1), kind=kInput, calls=%wrapped_transpose_computation, frontend_attributes={xla.sdy.sharding="#sdy.sharding<@empty_mesh, [{}, {}, {}, {}]>"}, metadata={op_name="w"}
  %cudnn-conv.1 = (bf16[8,56,56,64]{3,2,1,0}, u8[40]{0}) custom-call(%x.1, /*index=1*/%wrapped_transpose), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="jit(f)/ResNet/stem/conv" scheduling_name="cudnn-conv.1"}, backend_config={"operation_queue_id":"0"}
  %get-tuple-element.3 = bf16[8,56,56,64]{3,2,1,0} get-tuple-element(%cudnn-conv.1), index=0
  %input_reduce_fusion = bf16[8,64]{1,0} fusion(%get-tuple-element.3), kind=kInput, calls=%fused_reduce, metadata={op_name="jit(f)/reduce_sum"}
  %all-reduce-start = bf16[8,64]{1,0} all-reduce-start(%input_reduce_fusion), channel_id=2, to_apply=%add
  ROOT %all-reduce-done = bf16[8,64]{1,0} all-reduce-done(%all-reduce-start)
}
"""  # noqa: E501


def test_bytes_of_operations_count_full_tiles():
  tile = 2 * 8 * 128  # [4, 8] fills a tile of 8 x 128, whichever axis is the minor one
  found = [(operation.name, operation.scope, operation.size, operation.outside) for operation in hlo.operations(TPU)]
  assert found == [
    ('%copy-start', '', 4 * 128 + 4 * 128 + 4, 4 * 128),
    ('%fusion.1', 'jit(call)/ResNet/stem/mul', 2 * tile + 4 + 4 * 128, tile + 4),
    ('%add.2', 'jit(call)/ResNet/stem/add', 3 * tile, 2 * tile),
  ]
  assert hlo.padded('64,9,9,3', '0,3,2,1:T(8,128)(2,1)') == '128,9,9,8'
  assert hlo.padded('64,9', '1,0') == '64,9'


def test_a_program_of_a_gpu_moves_operands_and_results_of_its_kernels():
  image, kernel, means = 2 * 8 * 56 * 56 * 64, 2 * 9 * 64 * 64, 2 * 8 * 64
  sizes = [2 * kernel, image + 40 + image + kernel, image + means, 2 * means]
  assert [operation.size for operation in hlo.operations(GPU)] == sizes
  assert [operation.opcode for operation in hlo.operations(GPU)] == [
    'fusion',
    'custom-call',
    'fusion',
    'all-reduce-start',
  ]
  assert hlo.moved(GPU) == sum(sizes)
  assert hlo.largest(GPU, 2) == [('bf16[8,56,56,64]', image, 1), ('bf16[64,3,3,64]', kernel, 1)]
  assert hlo.collectives(GPU) == {'all-reduce': (1, means)}


def test_the_largest_arrays_of_one_shape_are_one_line():
  text = 'ENTRY %main () -> f32[5] {\n' + ''.join(
    f'  %x.{i} = f32[{5 - i % 2}]{{0}} fusion(), kind=kLoop\n' for i in range(5)
  )
  assert hlo.largest(text + '}\n', 3) == [('f32[5]', 20, 3), ('f32[4]', 16, 2)]


# As the TPU and the CPU compilers write them: tuples, tiled layouts with parentheses, pairs of start and done.
SENT = """
  %all-reduce.2 = (bf16[]{:T(256)}, bf16[2048]{0:T(1024)(128)(2,1)S(1)}) all-reduce(%a, %b), channel_id=1
  %get-tuple-element = bf16[]{:T(256)} get-tuple-element(%all-reduce.2), index=0
  %all-reduce.7 = f32[3,5]{1,0} all-reduce(%c), channel_id=2
  %all-gather-start = (f32[4,8]{1,0}, f32[32,8]{1,0}) all-gather-start(%d), channel_id=3
  %all-gather-done = f32[32,8]{1,0} all-gather-done(%all-gather-start)
  ROOT %x = pred[7]{0} collective-permute(%e), source_target_pairs={{0,1}}
"""


def test_collectives_are_counted_with_the_size_of_their_results():
  assert hlo.collectives(SENT) == {
    'all-reduce': (2, 2 + 2 * 2048 + 4 * 15),
    'all-gather': (1, 4 * 32 * 8),
    'collective-permute': (1, 7),
  }
  assert hlo.size('(s64[2,3], u8[], f64[0,4])') == 49
  assert hlo.collectives('%all-reduce = f32[] add(%a, %b)') == {}
