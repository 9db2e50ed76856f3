"""Tests that the fused attention kernel is chosen where it runs, and given what it takes."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from common.devices import attention, compilation, kernels
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


@pytest.mark.parametrize("shape", [(8, 1024, 512), (2000, 1024, 512), (8, 16, 4)])
def test_a_product_and_its_gradients_are_as_exact_as_xlas(shape):
    # Against NumPy in float64, whatever order the product is computed in.
    rows, inputs, outputs = shape
    rng = np.random.default_rng(0)
    x, w, g = (rng.normal(size=size) for size in ((rows, inputs), (inputs, outputs), (rows, outputs)))
    dimensions = (((1,), (0,)), ((), ()))

    def rounding(function):
        @jax.jit
        def product_and_gradients(x, w, g):
            result, pullback = jax.vjp(lambda x, w: function(x, w, dimensions, precision=None), x, w)
            return result, *pullback(g)

        found = product_and_gradients(*map(jnp.float32, (x, w, g)))
        return [np.sqrt(np.mean((a - b) ** 2)) / b.std() for a, b in zip(found, (x @ w, g @ w.T, x.T @ g), strict=True)]

    for ours, theirs in zip(rounding(kernels.product), rounding(jax.lax.dot_general), strict=True):
        assert ours < max(1.5 * theirs, 1e-7)


@pytest.mark.parametrize("sizes", [((48,), (96,)), ((96,), (48,)), ((3, 16), (24,)), ((48,), (3, 16))])
def test_a_product_of_tokens_and_its_gradients_are_as_exact_as_numpys(sizes):
    summed, outputs = sizes
    rng = np.random.default_rng(0)
    shapes = (4, 50, *summed), (*summed, *outputs), (4, 50, *outputs)
    x, w, g = (rng.normal(size=shape) for shape in shapes)
    count = len(summed)
    dimensions = ((tuple(range(2, 2 + count)), tuple(range(count))), ((), ()))
    with jax.enable_x64(True):
        result, pullback = jax.vjp(
            lambda x, w: kernels.product(x, w, dimensions, precision=None), *map(jnp.asarray, (x, w))
        )
        to_inputs, to_kernel = pullback(jnp.asarray(g))
    axes = len(outputs)
    np.testing.assert_allclose(result, np.tensordot(x, w, count), rtol=1e-10, atol=1e-12)
    last, first = (tuple(range(start, start + axes)) for start in (2, count))
    np.testing.assert_allclose(to_inputs, np.tensordot(g, w, (last, first)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(to_kernel, np.tensordot(x, g, ((0, 1), (0, 1))), rtol=1e-10, atol=1e-12)


def test_a_large_product_is_turned_on_cpu_only(monkeypatch):
    def program(platform):
        monkeypatch.setattr(jax, "default_backend", lambda: platform)
        loss = lambda x, w: jnp.sum(kernels.product(x, w, (((1,), (0,)), ((), ()))))  # noqa: E731
        return str(jax.make_jaxpr(jax.grad(loss))(jnp.ones((8, 1024)), jnp.ones((1024, 512))))

    assert "optimization_barrier" in program("cpu")
    assert "optimization_barrier" not in program("gpu")


def test_gradients_with_a_large_one_precede_all_updates_on_cpu_only(monkeypatch):
    def tied(platform, *shapes):
        monkeypatch.setattr(jax, "default_backend", lambda: platform)
        return "optimization_barrier" in str(
            jax.make_jaxpr(lambda *leaves: kernels.all_before_updates(leaves))(*map(jnp.ones, shapes))
        )

    assert tied("cpu", (1024, 512), (512,))
    assert not tied("cpu", (16, 16), (16,))
    assert not tied("gpu", (1024, 512), (512,))


def test_no_large_kernel_is_copied_for_its_update():
    # A hidden layer's kernel, whose gradient of the inputs reads it while its own gradient waits to change it.
    def update(first, second, images):
        def loss(kernels_):
            hidden = jnp.tanh(images @ kernels_[0])
            return jnp.sum(kernels.product(hidden, kernels_[1], (((1,), (0,)), ((), ()))) ** 2)

        gradients = order(jax.grad(loss)((first, second)))
        return first - 0.1 * gradients[0], second - 0.1 * gradients[1]

    def copies():
        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((256, 1024), (1024, 512), (8, 256))]
        program = compilation.jit(lambda *given: update(*given), donate_argnums=(0, 1)).lower(*shapes).compile()
        return program.as_text().count("f32[1024,512]{1,0} copy(")

    order = kernels.all_before_updates
    assert copies() == 0
    order = lambda gradients: gradients  # noqa: E731
    assert copies() == 1


def test_a_large_product_is_exported_for_any_number_of_rows():
    rows = jax.ShapeDtypeStruct(export.symbolic_shape("batch, 1024"), jnp.float32)
    weights = jnp.ones((1024, 512))
    with compilation.portable():
        made = export.export(jax.jit(lambda x: kernels.product(x, weights, (((1,), (0,)), ((), ())))))(rows)
    np.testing.assert_allclose(made.call(jnp.ones((3, 1024))), np.full((3, 512), 1024.0))
