"""The fastest form of a convolution on the device. The result is the same everywhere, to rounding."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from common.devices import compilation, products
from common.devices.convolutions import narrow, strided, winograd

_EXACT = ("high", "highest", "float32", "tensorfloat32", "bfloat16_3x")  # JAX's names

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "kernel_height kernel_width in_channels features"]
Maps = Float[Array, "batch out_height out_width features"]


def convolution(
    lhs: Images,
    rhs: Kernel,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    feature_group_count: int = 1,
    **options: Any,
) -> Maps:
    """The result of lax.conv_general_dilated; for the argument `conv_general_dilated` of flax.linen.Conv.

    Images and kernels have Flax's layout: NHWC and HWIO. On a CPU these have a form of their own, each where it is
    faster:

    - grouped convolutions, for which XLA leaves most cores idle: one convolution after the other,
    - 1x1 convolutions: a product of matrices,
    - 3x3 convolutions with many maps: `winograd`, unless `precision` or `jax.default_matmul_precision` asks for 'high'
      or 'highest',
    - 3x3 convolutions with 16 maps: `narrow`,
    - the gradients of strided convolutions: `strided`.
    """
    whole = feature_group_count == 1
    if compilation.tuned_for_cpu():
        lhs = stored_once(lhs)
        if whole and is_pointwise(lhs, rhs, padding, options):
            return _pointwise(lhs, rhs, window_strides, options.get("precision"))
        if whole and _keeps_size(lhs, rhs, window_strides, padding, options):
            if winograd.is_faster(lhs.shape, rhs.shape) and not _is_exact(options):
                return winograd.convolution(lhs, rhs)
            if narrow.is_faster(lhs.shape, rhs.shape):
                return narrow.convolution(lhs, rhs)
        if whole and _is_plain(lhs, rhs, options) and strided.is_faster(lhs.shape, rhs.shape, window_strides):
            (above, below), (left, right) = padding
            return strided.convolution(lhs, rhs, window_strides[0], ((above, below), (left, right)))
    plain: Callable[..., Array] = functools.partial(
        lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options
    )
    if whole or not compilation.on_cpu():
        return plain(lhs, rhs, feature_group_count=feature_group_count)
    inputs, kernels = (jnp.split(array, feature_group_count, axis=-1) for array in (lhs, rhs))
    return jnp.concatenate([plain(x, kernel) for x, kernel in zip(inputs, kernels, strict=True)], axis=-1)


def stored_once(images: Images) -> Images:
    """The images behind a barrier, so that XLA's CPU backend computes and stores them only once.

    Without it XLA computes the layers before a convolution again, transposed, for the gradient of the kernel.
    """
    return lax.optimization_barrier(images)


def is_pointwise(lhs: Array, rhs: Array, padding: Sequence[tuple[int, int]], options: dict[str, Any]) -> bool:
    """True for an undilated 1x1 convolution in float32 without padding."""
    return rhs.shape[:2] == (1, 1) and not any(map(any, padding)) and _is_plain(lhs, rhs, options)


def _pointwise(lhs: Images, rhs: Kernel, strides: Sequence[int], precision: Any) -> Maps:
    """A 1x1 convolution as the product of the places' channels with the kernel.

    Forwards and both gradients of ResNet-50's 1x1 convolutions, 8 images at 224 pixels, take 0.85 of the time of XLA's
    convolutions; those at stride 2 take 0.46 to 0.99 (two Xeon cores with AVX-512).
    """
    down, across = strides
    seen = lhs[:, ::down, ::across]
    rows = seen.reshape(-1, seen.shape[-1])
    return products.product(rows, rhs[0, 0], products.OF_MATRICES, precision=precision).reshape(*seen.shape[:-1], -1)


def _is_plain(lhs: Array, rhs: Array, options: dict[str, Any]) -> bool:
    """True for an undilated convolution in float32."""
    dilated = any(set(options.get(f"{side}_dilation") or [1]) != {1} for side in ("lhs", "rhs"))
    return not dilated and lhs.dtype == rhs.dtype == jnp.float32


def _keeps_size(lhs: Array, rhs: Array, strides: Sequence[int], padding: Any, options: dict[str, Any]) -> bool:
    """True for an undilated 3x3 convolution in float32 at stride 1, padded by 1."""
    unit = tuple(strides) == (1, 1) and tuple(map(tuple, padding)) == ((1, 1), (1, 1))
    return unit and rhs.shape[:2] == (3, 3) and _is_plain(lhs, rhs, options)


def _is_exact(options: dict[str, Any]) -> bool:
    """True if a precision was given for this convolution, or a high one for all products."""
    return bool(options.get("precision")) or getattr(jax.config, "jax_default_matmul_precision", None) in _EXACT
