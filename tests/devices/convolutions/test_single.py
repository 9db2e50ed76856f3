"""Tests that sums are the convolution of a single image, and are chosen for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from common.devices import compilation
from common.devices.convolutions import patches, single
from common.nn.layers import identity
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
    def layer(image, kernel):
        return single.layer(image, kernel, jnp.zeros(maps), identity)

    assert_same(layer, plain, (1, rows, columns, channels), (height, width, channels, maps))


@pytest.mark.parametrize("maps", [6, 16])
def test_the_bias_and_the_activation_are_applied_to_each_map(maps):
    rng = np.random.default_rng(0)
    shapes = (1, 9, 8, 2), (5, 5, 2, maps), (maps,), (1, 5, 4, maps)
    image, kernel, bias, slopes = (jnp.float32(rng.normal(size=shape)) for shape in shapes)

    def value(function, bias):
        return jnp.sum(function(bias) * slopes)

    ours = jax.value_and_grad(lambda bias: value(lambda b: single.layer(image, kernel, b, jnp.tanh), bias))(bias)
    theirs = jax.value_and_grad(lambda bias: value(lambda b: jnp.tanh(plain(image, kernel) + b), bias))(bias)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4), ours, theirs)


@pytest.mark.parametrize("strides", [1, 2])
def test_products_of_patches_are_convolutions(strides):
    rng = np.random.default_rng(0)
    images, kernel = (jnp.float32(rng.normal(size=shape)) for shape in ((3, 8, 10, 2), (3, 4, 2, 5)))
    ours = patches.convolution(images, kernel, strides)
    np.testing.assert_allclose(ours, plain(images, kernel, strides), rtol=1e-4, atol=1e-5)


def form(images, features, **fields):
    """The form of a LeNet's convolutional layer: 'sums' or 'a product'."""
    layer = layers.Convolution(features=features, **fields)
    images = jax.ShapeDtypeStruct(images, "float32")
    variables = jax.eval_shape(layer.init, jax.random.key(0), images)
    text = str(jax.make_jaxpr(layer.apply)(variables, images))
    return "a product" if "dot_general" in text else "sums"


def test_a_single_image_is_convolved_by_sums():
    assert form((1, 32, 32, 1), 6) == "sums"
    assert form((1, 14, 14, 6), 16) == "sums"
    assert form((2, 14, 14, 6), 16) == "a product"
    assert form((1, 5, 5, 16), 120) == "a product"  # C5
    assert form((1, 14, 14, 6), 16, dtype="bfloat16") == "a product"  # whose terms are added in float32
    assert form((1, 14, 14, 6), 16, second_order=True) == "a product"
    assert form((1, 28, 28, 1), 12, strides=2, bias_per_unit=True) == "a product"  # the network of 1989
    with compilation.portable():
        assert form((1, 14, 14, 6), 16) == "a product"
