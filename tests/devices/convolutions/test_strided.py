"""Tests that the gradient of a strided convolution in parts is the gradient, and is chosen where it is faster."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from common.devices import compilation
from common.devices.convolutions import fastest, strided
from tests.same_convolution import assert_same

NUMBERS = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "padding"),
    [
        ((8, 6), (3, 3), 2, ((1, 1), (1, 1))),  # a ResNet's
        ((8, 8), (7, 7), 2, ((3, 3), (3, 3))),
        ((8, 6), (3, 3), 2, ((0, 1), (0, 1))),
        ((6, 8), (2, 3), 2, ((0, 0), (2, 0))),
        ((9, 6), (3, 5), 3, ((1, 0), (2, 2))),
        ((12, 8), (5, 4), 4, ((0, 0), (2, 1))),
        ((10, 10), (3, 3), 2, ((0, 0), (0, 0))),  # the last row and column are not read
    ],
)
def test_values_and_gradients_are_those_of_a_convolution(size, kernel_size, stride, padding):
    def plain(images, kernel):
        return lax.conv_general_dilated(images, kernel, (stride, stride), padding, dimension_numbers=NUMBERS)

    assert_same(lambda x, w: strided.convolution(x, w, stride, padding), plain, (2, *size, 3), (*kernel_size, 3, 4))


def is_in_parts(images=(8, 28, 28, 256), kernel=(3, 3, 256, 256), strides=(2, 2), dtype="float32", **options):
    def maps(x, w):
        return fastest.convolution(x, w, strides, ((1, 1), (1, 1)), dimension_numbers=NUMBERS, **options)

    def gradient(x, w):
        return jax.vjp(maps, x, w)[1](jnp.zeros(jax.eval_shape(maps, x, w).shape, dtype))

    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in (images, kernel)]
    dilations = re.findall(r"lhs_dilation=\((\d), (\d)\)", str(jax.make_jaxpr(gradient)(*shapes)))
    return set(dilations) == {("1", "1")}


def test_parts_are_chosen_where_they_are_faster(monkeypatch):
    assert is_in_parts()
    assert is_in_parts((128, 32, 32, 16), (3, 3, 16, 32))
    assert is_in_parts(precision=lax.Precision.HIGHEST)
    assert not is_in_parts((8, 27, 28, 256))
    assert not is_in_parts((8, 224, 224, 3), (3, 3, 3, 64))
    assert not is_in_parts(strides=(1, 2))
    assert not is_in_parts(dtype="bfloat16")
    assert not is_in_parts(kernel=(3, 3, 128, 256), feature_group_count=2)
    with compilation.portable():
        assert not is_in_parts()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not is_in_parts()
