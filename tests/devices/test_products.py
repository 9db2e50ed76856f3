"""Tests of dense layers' products: exact, not copied, and their gradients a part of the update where that is faster."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from common.devices import compilation, products
from common.devices.products import OF_MATRICES


@pytest.mark.parametrize("shape", [(1, 1024, 512), (8, 1024, 512), (9, 1024, 512), (2000, 1024, 512), (8, 16, 4)])
def test_a_product_and_its_gradients_are_as_exact_as_xlas(shape):
    # Against NumPy in float64, whatever order the product is computed in.
    rows, inputs, outputs = shape
    rng = np.random.default_rng(0)
    x, w, g = (rng.normal(size=size) for size in ((rows, inputs), (inputs, outputs), (rows, outputs)))

    def rounding(function):
        @jax.jit
        def product_and_gradients(x, w, g):
            result, pullback = jax.vjp(lambda x, w: function(x, w, OF_MATRICES, precision=None), x, w)
            return result, *pullback(g)

        found = product_and_gradients(*map(jnp.float32, (x, w, g)))
        return [np.sqrt(np.mean((a - b) ** 2)) / b.std() for a, b in zip(found, (x @ w, g @ w.T, x.T @ g), strict=True)]

    for ours, theirs in zip(rounding(products.product), rounding(jax.lax.dot_general), strict=True):
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
            lambda x, w: products.product(x, w, dimensions, precision=None), *map(jnp.asarray, (x, w))
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
        loss = lambda x, w: jnp.sum(products.product(x, w, OF_MATRICES))  # noqa: E731
        return str(jax.make_jaxpr(jax.grad(loss))(jnp.ones((8, 1024)), jnp.ones((1024, 512))))

    assert "optimization_barrier" in program("cpu")
    assert "optimization_barrier" not in program("gpu")


def test_gradients_with_a_large_one_precede_all_updates_on_cpu_only(monkeypatch):
    def tied(platform, *shapes):
        monkeypatch.setattr(jax, "default_backend", lambda: platform)
        program = jax.make_jaxpr(lambda *leaves: products.all_before_updates(leaves))(*map(jnp.ones, shapes))
        return sum(len(line.invars) for line in program.eqns if line.primitive.name == "optimization_barrier")

    assert tied("cpu", (3, 3, 256, 256), (256,)) == 2
    assert tied("cpu", (1024, 512), (512,), (3, 3, 16, 16)) == 2  # a matrix's gradient may become a part of its update
    assert tied("cpu", (16, 16), (16,)) == 0
    assert tied("gpu", (3, 3, 256, 256), (256,)) == 0


@pytest.fixture(scope="module")
def compiled_update():
    """The text of a program that updates two dense layers; by rows, type and sizes."""

    def update(params, state, images):
        def loss(params):
            hidden = jnp.tanh(images @ params["first"])
            return jnp.sum(products.product(hidden, params["second"], OF_MATRICES).astype(jnp.float32) ** 2)

        gradients = products.all_before_updates(jax.grad(loss)(params))
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def text(rows, dtype=jnp.float32, sizes=(256, 1024, 512)):
        shapes = {"first": sizes[:2], "second": sizes[1:]}
        params = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in shapes.items()}
        images = jax.ShapeDtypeStruct((rows, sizes[0]), dtype)
        made = compilation.jit(lambda *given: update(*given), donate_argnums=(0, 1))
        return made.lower(params, jax.eval_shape(optimizer.init, params), images).compile().as_text()

    optimizer = optax.sgd(0.1, momentum=0.9)
    return text


@pytest.mark.parametrize(("rows", "sizes"), [(16, (256, 1024, 512)), (1, (400, 120, 84))])
def test_no_kernel_is_copied_for_its_update(compiled_update, monkeypatch, rows, sizes):
    # The gradient of the inputs reads a kernel while its own gradient waits to change it.
    def copies():
        return compiled_update(rows, sizes=sizes).count(f"f32[{sizes[1]},{sizes[2]}]{{1,0}} copy(")

    assert copies() == 0
    monkeypatch.setattr(products, "wait_for_all", lambda *arrays: arrays)
    assert copies() == 1


def test_a_large_gradient_of_few_rows_is_a_part_of_the_update(compiled_update):
    def stored(program):
        return "f32[1024,512]{1,0} dot(" in program

    assert not stored(compiled_update(1))
    assert not stored(compiled_update(8))
    assert stored(compiled_update(9))
    assert stored(compiled_update(8, jnp.bfloat16))  # a sum would be rounded after each row


def test_a_large_product_is_exported_for_any_number_of_rows():
    rows = jax.ShapeDtypeStruct(export.symbolic_shape("batch, 1024"), jnp.float32)
    weights = jnp.ones((1024, 512))
    with compilation.portable():
        made = export.export(jax.jit(lambda x: products.product(x, weights, OF_MATRICES)))(rows)
    np.testing.assert_allclose(made.call(jnp.ones((3, 1024))), np.full((3, 512), 1024.0))
