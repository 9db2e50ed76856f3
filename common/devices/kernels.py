"""Kernels that the default device has beyond what XLA compiles."""

import functools

import jax


@functools.cache
def has_cudnn_attention(dtype: str, head_size: int) -> bool:
    """True where cuDNN's fused attention, which keeps the attention weights out of memory, takes such heads.

    dtype: the type of queries, keys and values; head_size: the numbers in each. The kernel is for 16-bit types, a head
    size that is a multiple of 8 up to 128, and NVIDIA GPUs of compute capability 8.0 (Ampere) or later.
    """
    device = jax.devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version.lower():
        return False
    capability = tuple(int(number) for number in device.compute_capability.split("."))
    return capability >= (8, 0) and dtype in ("bfloat16", "float16") and head_size % 8 == 0 and head_size <= 128
