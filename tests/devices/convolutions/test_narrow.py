"""Tests that sums of products are the convolution with 16 maps, and that it is chosen where it is faster."""

import jax
import pytest
from jax import lax

from common.devices import compilation, host
from common.devices.convolutions import fastest, narrow
from tests.same_convolution import assert_same

PADDED = {"window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "dimension_numbers": ("NHWC", "HWIO", "NHWC")}


@pytest.mark.parametrize(
    ("batch", "height", "width", "channels"),
    [(6, 5, 12, 16), (7, 3, 40, 2)],  # 40 columns are two sums, 144 places and channels five
)
def test_values_and_gradients_are_those_of_a_convolution(batch, height, width, channels):
    assert_same(
        narrow.convolution,
        lambda x, w: lax.conv_general_dilated(x, w, **PADDED),
        (batch, height, width, channels),
        (3, 3, channels, 16),
    )


def is_sums(images=(128, 32, 32, 16), kernel=(3, 3, 16, 16), dtype="float32", groups=1, **changes):
    def maps(x, w):
        return fastest.convolution(x, w, feature_group_count=groups, **{**PADDED, **changes})

    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in (images, kernel)]
    return "conv_general_dilated" not in str(jax.make_jaxpr(maps)(*shapes))


def test_sums_are_chosen_where_they_are_faster(monkeypatch):
    monkeypatch.setattr(host, "processor_facts", lambda: "flags : avx2 avx512f")
    assert is_sums()
    assert is_sums((128, 32, 32, 3), (3, 3, 3, 16))
    assert is_sums((1, 28, 28, 1), (3, 3, 1, 16))
    assert is_sums(precision=lax.Precision.HIGHEST)  # their rounding is that of XLA's convolution
    assert not is_sums((127, 32, 32, 16))  # 127 is prime: each turn of the loop would take one image
    assert not is_sums((128, 8, 8, 16))
    assert not is_sums((8, 224, 224, 3), (3, 3, 3, 16))
    assert not is_sums(kernel=(3, 3, 16, 32))
    assert not is_sums((128, 32, 32, 32), (3, 3, 32, 16))
    assert not is_sums(kernel=(5, 5, 16, 16), padding=((2, 2), (2, 2)))
    assert not is_sums(padding=((0, 0), (0, 0)))
    assert not is_sums(window_strides=(2, 2))
    assert not is_sums(rhs_dilation=(2, 2))
    assert not is_sums(dtype="bfloat16")
    assert not is_sums(kernel=(3, 3, 8, 16), groups=2)
    with compilation.portable():
        assert not is_sums()
    monkeypatch.setattr(host, "processor_facts", lambda: "flags : avx2")
    assert not is_sums()
