"""The fused attention kernel is chosen where it runs."""

import types

import jax
import pytest

from common.devices import kernels


@pytest.fixture
def has_cudnn_attention():
    kernels.has_cudnn_attention.cache_clear()
    yield kernels.has_cudnn_attention
    kernels.has_cudnn_attention.cache_clear()


def device(capability="9.0", platform="gpu", version="CUDA 12090"):
    client = types.SimpleNamespace(platform_version=version)
    return types.SimpleNamespace(platform=platform, client=client, compute_capability=capability)


@pytest.mark.parametrize(
    ("found", "dtype", "head_size", "expected"),
    [
        (device(), "bfloat16", 64, True),
        (device(), "float16", 80, True),  # ViT-H/14
        (device("8.0"), "bfloat16", 64, True),
        (device(), "float32", 64, False),
        (device(), "bfloat16", 12, False),
        (device(), "bfloat16", 256, False),
        (device("7.5"), "bfloat16", 64, False),
        (device("gfx942", version="PJRT C API rocm 70000"), "bfloat16", 64, False),
        (types.SimpleNamespace(platform="tpu"), "bfloat16", 128, False),
    ],
)
def test_cudnn_attention_needs_a_recent_gpu_16_bit_types_and_small_heads(
    has_cudnn_attention, monkeypatch, found, dtype, head_size, expected
):
    monkeypatch.setattr(jax, "devices", lambda: [found])
    assert has_cudnn_attention(dtype, head_size) is expected
