"""XLA's convolution; on CPU, where its grouped convolution leaves most cores idle, one convolution for each group."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from common.devices import compilation

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
    """The result of lax.conv_general_dilated; for the argument `conv_general_dilated` of flax.linen.Conv.

    Images and kernels have Flax's layout: NHWC and HWIO.
    """
    plain: Callable[..., Array] = functools.partial(
        lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options
    )
    if feature_group_count == 1 or not compilation.on_cpu():
        return plain(lhs, rhs, feature_group_count=feature_group_count)
    inputs, kernels = (jnp.split(array, feature_group_count, axis=-1) for array in (lhs, rhs))
    return jnp.concatenate([plain(x, kernel) for x, kernel in zip(inputs, kernels, strict=True)], axis=-1)
