"""Convolution as XLA has it, but that on CPU, where grouped ones leave most of the processor idle, groups go apart."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "kernel_height kernel_width in_channels features"]
Maps = Float[Array, "batch out_height out_width features"]


def convolve(
    lhs: Images,
    rhs: Kernel,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    feature_group_count: int = 1,
    **options: Any,
) -> Maps:
    """What lax.conv_general_dilated computes, for the `conv_general_dilated` of flax.linen.Conv.

    Images and kernels lie as Flax has them.
    """
    plain = functools.partial(lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options)
    if feature_group_count == 1 or jax.default_backend() != "cpu":
        return plain(lhs, rhs, feature_group_count=feature_group_count)
    inputs, kernels = (jnp.split(array, feature_group_count, axis=-1) for array in (lhs, rhs))
    return jnp.concatenate([plain(x, kernel) for x, kernel in zip(inputs, kernels, strict=True)], axis=-1)
