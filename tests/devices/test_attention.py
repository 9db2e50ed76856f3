"""Tests that the fused attention kernel is chosen where it runs, and given what it takes."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.devices import attention, compilation
from tests.slow import rest_slow


@pytest.fixture
def has_cudnn():
    attention.has_cudnn.cache_clear()
    yield attention.has_cudnn
    attention.has_cudnn.cache_clear()


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
    has_cudnn, monkeypatch, found, dtype, head_size, expected
):
    monkeypatch.setattr(jax, "devices", lambda: [found])
    assert has_cudnn(dtype, head_size) is expected


@pytest.mark.parametrize("tokens", rest_slow([5, 6]))
def test_the_fused_kernel_is_given_an_even_number_of_tokens(monkeypatch, tokens):
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, tokens, 2, 8))

    def loss(*heads):
        return jnp.sum(attention.attend(*heads) ** 3)

    expected = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(query, key, value)
    plain = jax.nn.dot_product_attention

    def cudnn(query, key, value, *, implementation, **options):
        assert implementation == "cudnn"
        assert query.shape[1] % 2 == key.shape[1] % 2 == 0  # JAX refuses the gradient for others
        return plain(query, key, value, implementation="xla", **options)

    monkeypatch.setattr(compilation, "on_cpu", lambda: False)
    monkeypatch.setattr(attention, "has_cudnn", lambda *_: True)
    monkeypatch.setattr(jax.nn, "dot_product_attention", cudnn)
    found = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(query, key, value)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5), found, expected)
