"""Tests that sums are the convolution of a single image, and are chosen for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from common.devices import compilation
from common.devices.convolutions import patches, single
from lenet import layers
from tests.same_convolution import assert_same


def plain(images, kernel, strides=1):
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        images, kernel, (strides, strides), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("rows", "columns", "height", "width", "channels", "maps"),
    [
        (9, 11, 5, 5, 1, 6),  # C1's kernel
        (7, 8, 5, 5, 6, 16),  # C3's: 150 terms are five sums
        (4, 50, 1, 2, 3, 1),  # 49 columns of maps are two sums
        (12, 5, 3, 4, 2, 9),
    ],
)
def test_values_and_gradients_are_those_of_a_convolution(rows, columns, height, width, channels, maps):
    assert_same(single.convolution, plain, (1, rows, columns, channels), (height, width, channels, maps))


@pytest.mark.parametrize("strides", [1, 2])
def test_products_of_patches_are_convolutions(strides):
    rng = np.random.default_rng(0)
    images, kernel = (jnp.float32(rng.normal(size=shape)) for shape in ((3, 8, 10, 2), (3, 4, 2, 5)))
    ours = patches.convolution(images, kernel, strides)
    np.testing.assert_allclose(ours, plain(images, kernel, strides), rtol=1e-4, atol=1e-5)


def form(images, kernel, strides=1, dtype="float32"):
    """The form of a LeNet's convolution: 'sums' or 'a product'."""
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in (images, kernel)]
    text = str(jax.make_jaxpr(lambda x, w: layers.convolve(x, w, strides))(*shapes))
    return "a product" if "dot_general" in text else "sums"


def test_a_single_image_is_convolved_by_sums():
    assert form((1, 32, 32, 1), (5, 5, 1, 6)) == "sums"
    assert form((1, 14, 14, 6), (5, 5, 6, 16)) == "sums"
    assert form((2, 14, 14, 6), (5, 5, 6, 16)) == "a product"
    assert form((1, 5, 5, 16), (5, 5, 16, 120)) == "a product"  # C5
    assert form((1, 14, 14, 6), (5, 5, 6, 16), dtype="bfloat16") == "a product"  # whose terms are added in float32
    assert form((1, 16, 16, 1), (5, 5, 1, 12), strides=2) == "a product"  # the network of 1989
    with compilation.portable():
        assert form((1, 14, 14, 6), (5, 5, 6, 16)) == "a product"
