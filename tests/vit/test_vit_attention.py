"""Attention and layer normalisation against their equations, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vit_equations

from common.devices import attention, host
from tests import networks
from vit import model
from vit.attention import MultiHeadDotProductAttention, attention_weights


def heads(seed, tokens=7, size=6):
    return np.random.default_rng(seed).normal(size=(2, tokens, 3, size))


def test_layer_norm_is_its_equation():
    x = 3 + 2 * np.random.default_rng(0).normal(size=(4, 5, 24))
    scale, bias = np.random.default_rng(1).normal(size=(2, 24))
    with jax.enable_x64(True):
        norm = model.layer_norm("float64", "norm")
        ours = norm.apply({"params": {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}}, jnp.asarray(x))
    np.testing.assert_allclose(ours, vit_equations.layer_norm(x, scale, bias), rtol=1e-12, atol=1e-12)


def test_layer_norm_keeps_its_precision_far_from_zero():
    x = 1000 + np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    ours = model.layer_norm("float32", "norm").apply({"params": {"scale": np.ones(64), "bias": np.zeros(64)}}, x)
    np.testing.assert_allclose(ours, vit_equations.layer_norm(np.float64(x), 1, 0), atol=1e-3)


def test_scaled_dot_product_attention_is_its_equation():
    query, key, value = heads(0), heads(1), heads(2)
    with jax.enable_x64(True):
        weights = attention_weights(jnp.asarray(query), jnp.asarray(key))
        output = attention.attend(*map(jnp.asarray, (query, key, value)))
    for image in range(2):
        for head in range(3):
            expected, expected_weights = vit_equations.attention(*(x[image, :, head] for x in (query, key, value)))
            np.testing.assert_allclose(weights[image, head], expected_weights, rtol=1e-12)
            np.testing.assert_allclose(output[image, :, head], expected, rtol=1e-11, atol=1e-13)


def test_attention_agrees_with_jax_and_rows_of_weights_sum_to_one():
    query, key, value = (jnp.asarray(heads(seed), jnp.float32) for seed in range(3))
    expected = jax.jit(jax.nn.dot_product_attention)(query, key, value)
    np.testing.assert_allclose(jax.jit(attention.attend)(query, key, value), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(attention_weights)(query, key).sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize(("batch", "tokens"), [(2, 7), (4, 300)])  # a whole batch, and one that is computed in parts
def test_gradients_of_attention_are_those_of_its_equation(batch, tokens):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        arrays = [jnp.asarray(rng.normal(size=(batch, tokens, 2, 4))) for _ in range(4)]

        def equation(query, key, value):
            return jnp.matmul(attention_weights(query, key), value.swapaxes(1, 2)).swapaxes(1, 2)

        def gradients(attend):
            *heads, cotangent = arrays
            return jax.jit(jax.grad(lambda *heads: jnp.sum(attend(*heads) * cotangent), argnums=(0, 1, 2)))(*heads)

        for found, expected in zip(gradients(attention.attend), gradients(equation), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_large_batch_is_attended_to_in_parts_on_one_device_only(monkeypatch):
    def parts(batch, devices=1):
        monkeypatch.setattr(jax, "device_count", lambda: devices)
        monkeypatch.setattr(host, "cores", lambda: 2)
        heads = jax.ShapeDtypeStruct((batch, 300, 3, 64), jnp.float32)
        return str(jax.make_jaxpr(lambda *given: attention.attend(*given))(heads, heads, heads)).count(" exp ")

    assert [parts(8), parts(6), parts(7), parts(8, devices=2)] == [4, 3, 1, 1]


def test_attention_in_bfloat16_keeps_its_softmax_in_float32():
    query, key, value = (jnp.asarray(heads(seed), jnp.bfloat16) for seed in range(3))
    assert attention_weights(query, key).dtype == jnp.float32
    output = attention.attend(query, key, value)
    assert output.dtype == jnp.bfloat16
    exact = attention.attend(*(x.astype(jnp.float32) for x in (query, key, value)))
    np.testing.assert_allclose(output.astype(jnp.float32), exact, atol=0.02)


def test_multi_head_attention_is_its_equation():
    module = MultiHeadDotProductAttention(num_heads=3, dtype="float64")
    tokens = np.random.default_rng(0).normal(size=(2, 5, 12))
    with jax.enable_x64(True):
        shapes = jax.eval_shape(module.init, jax.random.key(0), tokens)["params"]
        params = jax.tree.map(lambda leaf: np.random.default_rng(leaf.size).normal(size=leaf.shape), shapes)
        ours = jax.jit(module.apply)({"params": params}, jnp.asarray(tokens))
    arrays = {f"{layer}/{name}": array for layer, tree in params.items() for name, array in tree.items()}
    for image in range(2):
        expected = vit_equations.multi_head(tokens[image], arrays)
        np.testing.assert_allclose(ours[image], expected, rtol=1e-10, atol=1e-10)


def test_weights_are_kept_only_when_asked_for():
    module = MultiHeadDotProductAttention(num_heads=2)
    tokens = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 8)), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), tokens)
    assert set(shapes) == {"params"}
    variables = networks.drawn(shapes)
    output, kept = jax.jit(functools.partial(module.apply, mutable=["intermediates"]))(variables, tokens)
    np.testing.assert_array_equal(output, jax.jit(module.apply)(variables, tokens))
    assert kept["intermediates"]["attention"][0].shape == (1, 2, 4, 4)


def test_the_fused_kernel_agrees_with_the_equation():
    if not attention.has_cudnn("bfloat16", 64):
        pytest.skip("needs an NVIDIA GPU of compute capability 8.0 or later")
    query, key, value = (jnp.asarray(heads(seed, 197, 64), jnp.bfloat16) for seed in range(3))

    def loss(attend, query, key, value):
        return jnp.sum(attend(query, key, value).astype(jnp.float32) ** 2)

    def plain(query, key, value):
        weights = attention_weights(query, key).astype(value.dtype)
        return jnp.matmul(weights, value.swapaxes(1, 2)).swapaxes(1, 2)

    ours, expected = (
        jax.grad(loss, argnums=(1, 2, 3))(attend, query, key, value) for attend in (attention.attend, plain)
    )
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), atol=0.1, rtol=0.1)
