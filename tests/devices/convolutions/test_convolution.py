"""Tests that convolving group by group gives the grouped convolution; every other convolution is left as it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from common.devices import compilation
from common.devices.convolutions.fastest import convolution

CASES = {  # images, kernel, strides, padding, groups
    "1x1": ((2, 6, 5, 3), (1, 1, 3, 4), (1, 1), ((0, 0), (0, 0)), 1),
    "1x1 at stride 2": ((2, 7, 6, 3), (1, 1, 3, 4), (2, 2), ((0, 0), (0, 0)), 1),
    "many channels": ((2, 6, 5, 32), (3, 3, 32, 4), (1, 1), ((1, 1), (1, 1)), 1),
    "many channels at stride 2": ((2, 8, 7, 32), (3, 3, 32, 4), (2, 2), ((1, 1), (1, 1)), 1),
    "unequal padding, strides and sides": ((2, 8, 9, 32), (2, 3, 32, 4), (3, 2), ((0, 1), (2, 0)), 1),
    "few channels": ((2, 6, 5, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1)), 1),
    "large kernel": ((1, 9, 9, 32), (5, 5, 32, 4), (1, 1), ((2, 2), (2, 2)), 1),
    "groups": ((2, 6, 5, 64), (3, 3, 32, 6), (1, 1), ((1, 1), (1, 1)), 2),
    "groups of few channels": ((2, 6, 5, 4), (3, 3, 2, 6), (2, 2), ((1, 1), (1, 1)), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_lax(case):
    shape, kernel_shape, strides, padding, groups = CASES[case]
    rng = np.random.default_rng(0)
    images, kernel = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in (shape, kernel_shape))
    options = {"window_strides": strides, "padding": padding, "feature_group_count": groups}
    ours, theirs = (
        functools.partial(function, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)
        for function in (convolution, lax.conv_general_dilated)
    )
    gradient = jnp.asarray(rng.normal(size=jax.eval_shape(theirs, images, kernel).shape), jnp.float32)

    @jax.jit
    def ours_and_theirs(images, kernel, gradient):
        both = []
        for function in (ours, theirs):
            maps, pullback = jax.vjp(function, images, kernel)
            both.append((maps, *pullback(gradient)))
        return both

    (maps, *gradients), (expected, *expected_gradients) = ours_and_theirs(images, kernel, gradient)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("padding", "product"), [(((0, 0), (0, 0)), True), (((1, 1), (1, 1)), False)])
def test_a_convolution_of_single_pixels_is_a_product(padding, product):
    convolve = functools.partial(convolution, window_strides=(2, 2), padding=padding)
    program = jax.make_jaxpr(functools.partial(convolve, dimension_numbers=("NHWC", "HWIO", "NHWC")))
    text = str(program(jnp.ones((2, 8, 8, 3)), jnp.ones((1, 1, 3, 4))))
    assert ("dot_general" in text, "conv_general_dilated" in text) == (product, not product)


def test_the_kernels_gradient_does_not_compute_the_images_again():
    # The ReLU before a convolution is in one loop of the program; XLA by itself puts it into two.
    def relus(convolve):
        def loss(kernel, images):
            maps = convolve(jnp.maximum(2 * images, 0.5), kernel, **dimensions)
            return jnp.sum(jnp.square(maps))

        lowered = compilation.jit(jax.grad(loss)).lower(jnp.ones((3, 3, 16, 16)), jnp.ones((8, 32, 32, 16)))
        return lowered.compile().as_text().count(" maximum(")

    dimensions = {"window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    assert relus(convolution) == 1
    assert relus(lax.conv_general_dilated) == 2
