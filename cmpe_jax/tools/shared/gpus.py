"""GPUs as their compiler wants to know them, so that it works where there is none.

The limits of a compute capability stand in NVIDIA's CUDA programming guide ('Compute Capabilities' at
docs.nvidia.com/cuda/cuda-programming-guide), numbers of multiprocessors, sizes of caches and clock rates in its papers
about the architectures: Ampere (A100), Hopper (H100, H200) and Blackwell (B200). Clock rates are the highest ones.
"""

import dataclasses

A_HOST = 8  # GPUs


@dataclasses.dataclass(frozen=True)
class Gpu:
  """What decides how a program is compiled.

  Attributes:
    name: as the driver calls it.
    capability: the major number of its compute capability; the minor one is 0.
    multiprocessors: of a GPU.
    lanes: operations in float32 that a multiprocessor begins in a clock cycle.
    shared: KiB of shared memory of a multiprocessor; a block can have 1 KiB less.
    cache: MiB of the second level.
    clock: GHz.
  """

  name: str
  capability: int
  multiprocessors: int
  lanes: int
  shared: int
  cache: int
  clock: float


GPUS = {
  'a100': Gpu('NVIDIA A100-SXM4-80GB', 8, multiprocessors=108, lanes=64, shared=164, cache=40, clock=1.41),
  'h100': Gpu('NVIDIA H100 80GB HBM3', 9, multiprocessors=132, lanes=128, shared=228, cache=50, clock=1.98),
  'h200': Gpu('NVIDIA H200', 9, multiprocessors=132, lanes=128, shared=228, cache=50, clock=1.98),
  'b200': Gpu('NVIDIA B200', 10, multiprocessors=148, lanes=128, shared=228, cache=126, clock=1.965),
}


def target(gpu: Gpu, memory: int, bandwidth: float) -> str:
  """The target configuration of XLA's GPU compiler, a `GpuTargetConfigProto` as text.

  Args:
    gpu: which.
    memory: bytes.
    bandwidth: of the memory, bytes/s.
  """
  # From Hopper on there are instructions of this one capability only, and the compiler uses them.
  extension = 'ACCELERATED_FEATURES' if gpu.capability >= 9 else 'NONE'
  return f"""
platform_name: "CUDA"
device_description_str: "{gpu.name}"
dnn_version_info {{ major: 9 minor: 10 }}
gpu_device_info {{
  name: "{gpu.name}"
  cuda_compute_capability {{ major: {gpu.capability} feature_extension: {extension} }}
  core_count: {gpu.multiprocessors}
  fpus_per_core: {gpu.lanes}
  clock_rate_ghz: {gpu.clock}
  device_memory_size: {memory}
  memory_bandwidth: {bandwidth:.0f}
  l2_cache_size: {gpu.cache * 2**20}
  shared_memory_per_core: {gpu.shared * 2**10}
  shared_memory_per_block: {48 * 2**10}
  shared_memory_per_block_optin: {(gpu.shared - 1) * 2**10}
  registers_per_core_limit: {2**16}
  registers_per_block_limit: {2**16}
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: {2**31 - 1}
  block_dim_limit_y: {2**16 - 1}
  block_dim_limit_z: {2**16 - 1}
}}
"""
