"""Tests that Winograd's convolutions are the convolutions, to the rounding that the module states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from common.anatomy import networks
from common.devices import compilation
from common.devices.convolutions import fastest, winograd

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
PADDED = {"window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "dimension_numbers": DIMENSIONS}


def exact(images, kernel, gradient):
    """The maps and both gradients in float64, by NumPy: a sum over the nine places of the kernel."""
    _, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    maps, of_images, of_kernel = np.zeros(gradient.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    for i in range(3):
        for j in range(3):
            seen = np.s_[:, i : i + height, j : j + width]
            maps += padded[seen] @ kernel[i, j]
            of_images[seen] += gradient @ kernel[i, j].T
            of_kernel[i, j] = np.tensordot(padded[seen], gradient, ((0, 1, 2), (0, 1, 2)))
    return maps, of_images[:, 1:-1, 1:-1], of_kernel


@pytest.mark.parametrize("side", [(8, 12), (7, 9)])
def test_values_and_gradients_have_the_stated_rounding(side):
    rng = np.random.default_rng(0)
    images, kernel, gradient = (rng.normal(size=size) for size in ((2, *side, 40), (3, 3, 40, 24), (2, *side, 24)))

    @jax.jit
    def maps_and_gradients(images, kernel, gradient):
        maps, pullback = jax.vjp(winograd.convolution, images, kernel)
        return maps, *pullback(gradient)

    found = maps_and_gradients(*map(jnp.float32, (images, kernel, gradient)))
    for ours, expected in zip(found, exact(images, kernel, gradient), strict=True):
        assert np.sqrt(np.mean((ours - expected) ** 2)) < 5e-6 * expected.std()


def is_winograds(images=(1, 28, 28, 128), kernel=(3, 3, 128, 128), dtype="float32", groups=1, **changes):
    def maps(x, w):
        return fastest.convolution(x, w, feature_group_count=groups, **{**PADDED, **changes})

    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in (images, kernel)]
    return str(jax.make_jaxpr(maps)(*shapes)).count("dot_general") > 1  # a convolution of 1x1 is one product


def test_winograds_algorithm_is_chosen_where_it_is_faster_and_allowed(monkeypatch):
    assert is_winograds()
    assert is_winograds((8, 56, 56, 256), (3, 3, 256, 512))
    assert is_winograds((8, 13, 13, 256), (3, 3, 256, 256))
    assert not is_winograds((1, 14, 14, 512), (3, 3, 512, 512))  # too few tiles for the kernel's transformation
    assert is_winograds((8, 14, 14, 512), (3, 3, 512, 512))
    assert not is_winograds((8, 7, 7, 512), (3, 3, 512, 512))
    assert not is_winograds((1, 28, 28, 64), (3, 3, 64, 128))
    assert not is_winograds(kernel=(1, 1, 128, 128), padding=((0, 0), (0, 0)))
    assert not is_winograds(padding=((0, 0), (0, 0)))
    assert not is_winograds(window_strides=(2, 2))
    assert not is_winograds(dtype="bfloat16")
    assert not is_winograds(images=(1, 28, 28, 256), groups=2)
    assert not is_winograds(precision=lax.Precision.HIGHEST)
    with jax.default_matmul_precision("highest"):
        assert not is_winograds()
    with compilation.portable():
        assert not is_winograds()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not is_winograds()


def test_counts_of_multiply_adds_are_those_of_the_equation():
    # The fifth and sixth layers of VGG's A are Winograd's on a CPU.
    assert networks.multiply_adds("vgg", "vgg11") == 7_609_090_048
