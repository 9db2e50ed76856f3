"""Tests that products with banded matrices are convolutions, and they are chosen where they are faster."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from common.devices import compilation
from common.devices.convolutions import banded
from lenet import layers


def plain(images, kernel, strides):
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        images, kernel, (strides, strides), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@settings(max_examples=8, deadline=None)
@given(
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    rows=st.integers(0, 9),
    columns=st.integers(0, 30),
    channels=st.integers(1, 3),
    maps=st.integers(1, 7),
    strides=st.integers(1, 3),
)
def test_values_and_gradients_are_those_of_a_convolution(height, width, rows, columns, channels, maps, strides):
    rng = np.random.default_rng(0)
    images = jnp.float32(rng.normal(size=(2, height + rows, width + columns, channels)))
    kernel = jnp.float32(rng.normal(size=(height, width, channels, maps)))
    gradient = jnp.float32(
        rng.normal(size=jax.eval_shape(functools.partial(plain, strides=strides), images, kernel).shape)
    )

    @functools.partial(jax.jit, static_argnums=0)  # one program instead of one for each operation
    def values_and_gradients(convolution, images, kernel, gradient):
        values, pullback = jax.vjp(functools.partial(convolution, strides=strides), images, kernel)
        return values, *pullback(gradient)

    ours, expected = (values_and_gradients(which, images, kernel, gradient) for which in (banded.convolution, plain))
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_each_column_of_the_matrix_is_the_kernel_one_stride_later():
    kernel = jnp.arange(1.0, 4.0).reshape(1, 3, 1, 1)
    expected = np.array([[1, 2, 3, 0, 0, 0, 0], [0, 0, 1, 2, 3, 0, 0], [0, 0, 0, 0, 1, 2, 3]]).T
    np.testing.assert_array_equal(banded.banded_matrix(kernel, outputs=3, strides=2), expected)


@pytest.mark.parametrize(
    ("images", "kernel", "chosen"),
    [
        ((128, 32, 32, 1), (5, 5, 1, 6), True),  # C1 of LeNet-5
        ((128, 14, 14, 6), (5, 5, 6, 16), True),  # C3
        ((128, 5, 5, 16), (5, 5, 16, 120), False),  # C5, a dense layer
        ((2, 32, 32, 1), (5, 5, 1, 6), True),
        ((2, 14, 14, 6), (5, 5, 6, 16), False),  # making the matrix would take longer than the product
    ],
)
def test_banded_products_are_chosen_on_a_cpu_for_batches_and_small_kernels(images, kernel, chosen, monkeypatch):
    def strips():
        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (images, kernel)]
        rows = images[0] * (images[1] - 4) * (images[2] - 4)  # of a product of patches
        # A new function each time, because JAX keeps the traces of those it has seen.
        return f"f32[{rows}," not in str(jax.make_jaxpr(lambda x, k: layers.convolve(x, k))(*shapes))

    assert strips() == chosen
    with compilation.portable():
        assert not strips()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not strips()
