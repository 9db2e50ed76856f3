"""Operations whose fastest form depends on the device. The result is the same everywhere, to rounding."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, PyTree

from common.devices import compilation, winograd

_EXACT = ("high", "highest", "float32", "tensorfloat32", "bfloat16_3x")  # JAX's names

Heads = Float[Array, "batch tokens heads head_size"]
Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "kernel_height kernel_width in_channels features"]
Maps = Float[Array, "batch out_height out_width features"]


def attention(query: Heads, key: Heads, value: Heads) -> Heads:
    """softmax(Q K^T / sqrt(d)) V, with scores and softmax in float32 or better (Vaswani et al. 2017, section 3.2)."""
    if compilation.on_cpu():
        return _divided_last(query, key, value)
    if has_cudnn_attention(str(query.dtype), query.shape[-1]):
        return _even(query, key, value, functools.partial(jax.nn.dot_product_attention, implementation="cudnn"))
    return jax.nn.dot_product_attention(query, key, value, implementation="xla")


def _even(query: Heads, key: Heads, value: Heads, attend: Callable[..., Heads]) -> Heads:
    """attend(query, key, value), with a masked token appended where their number is odd.

    JAX refuses the gradient of cuDNN's attention for odd numbers, such as a ViT's 196 patches and class token.
    """
    batch, tokens = query.shape[:2]
    if tokens % 2 == 0:
        return attend(query, key, value)
    lengths = jnp.full((batch,), tokens, jnp.int32)
    query, key, value = (jnp.pad(x, [(0, 0), (0, 1), (0, 0), (0, 0)]) for x in (query, key, value))
    return attend(query, key, value, key_value_seq_lengths=lengths)[:, :tokens]


def attention_scores(query: Heads, key: Heads) -> Float[Array, "batch heads tokens tokens"]:
    """Q K^T, in float32 or better."""
    # The axes are put in order here: XLA's CPU backend takes 1.6 times as long when it orders them itself.
    query, key = query.swapaxes(1, 2), key.transpose(0, 2, 3, 1)
    return jnp.matmul(query, key, preferred_element_type=jnp.promote_types(query.dtype, jnp.float32))


def _divided_last(query: Heads, key: Heads, value: Heads) -> Heads:
    """Attention with its divisions applied to the smallest arrays: Q by sqrt(d), A V by the sums of A's rows.

    On a CPU, where each division is a pass over memory, training is 5% faster.
    """
    scores = attention_scores(query / math.sqrt(query.shape[-1]), key)
    powers = jnp.exp(scores - lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    sums = powers.sum(axis=-1, keepdims=True)
    heads = jnp.matmul(powers.astype(value.dtype), value.swapaxes(1, 2), preferred_element_type=sums.dtype)
    return (heads / sums).astype(value.dtype).swapaxes(1, 2)


@functools.cache
def has_cudnn_attention(dtype: str, head_size: int) -> bool:
    """True where cuDNN's fused attention, which keeps the attention weights out of memory, takes such heads.

    dtype: the type of queries, keys and values; head_size: the numbers in each. The kernel is for 16-bit types, a head
    size that is a multiple of 8 up to 128, and NVIDIA GPUs of compute capability 8.0 (Ampere) or later.
    """
    device = jax.devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version.lower():
        return False
    capability = tuple(int(number) for number in device.compute_capability.split("."))
    return capability >= (8, 0) and dtype in ("bfloat16", "float16") and head_size % 8 == 0 and head_size <= 128


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

    Images and kernels have Flax's layout: NHWC and HWIO. On CPU, where XLA's grouped convolution leaves most cores
    idle, each group is a convolution of its own, and a 1x1 convolution is a product of matrices. Where
    `winograd.is_faster`, and neither `precision` nor `jax.default_matmul_precision` asks for 'high' or 'highest', 3x3
    convolutions in float32 are Winograd's.
    """
    whole = feature_group_count == 1
    if compilation.tuned_for_cpu():
        lhs = kept(lhs)
        if whole and is_pointwise(lhs, rhs, padding, options):
            return _pointwise(lhs, rhs, window_strides, options.get("precision"))
        if whole and _suits_winograd(lhs, rhs, window_strides, padding, options):
            return winograd.convolution(lhs, rhs)
    plain: Callable[..., Array] = functools.partial(
        lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options
    )
    if whole or not compilation.on_cpu():
        return plain(lhs, rhs, feature_group_count=feature_group_count)
    inputs, kernels = (jnp.split(array, feature_group_count, axis=-1) for array in (lhs, rhs))
    return jnp.concatenate([plain(x, kernel) for x, kernel in zip(inputs, kernels, strict=True)], axis=-1)


def kept(images: Images) -> Images:
    """The images behind a barrier, so that XLA's CPU backend computes and stores them only once.

    Without it XLA computes the layers before a convolution again, transposed, for the gradient of the kernel.
    """
    return lax.optimization_barrier(images)


def is_pointwise(lhs: Array, rhs: Array, padding: Sequence[tuple[int, int]], options: dict[str, Any]) -> bool:
    """True for an undilated 1x1 convolution in float32 without padding."""
    plain = rhs.shape[:2] == (1, 1) and not any(map(any, padding)) and not _is_dilated(options)
    return plain and lhs.dtype == rhs.dtype == jnp.float32


def _pointwise(lhs: Images, rhs: Kernel, strides: Sequence[int], precision: Any) -> Maps:
    """A 1x1 convolution as the product of the places' channels with the kernel.

    Forwards and both gradients of ResNet-50's 1x1 convolutions, 8 images at 224 pixels, take 0.85 of the time of XLA's
    convolutions; those at stride 2 take 0.46 to 0.99 (two Xeon cores with AVX-512).
    """
    down, across = strides
    seen = lhs[:, ::down, ::across]
    rows = seen.reshape(-1, seen.shape[-1])
    return product(rows, rhs[0, 0], _OF_MATRICES, precision=precision).reshape(*seen.shape[:-1], -1)


def _is_dilated(options: dict[str, Any]) -> bool:
    return any(set(options.get(f"{side}_dilation") or [1]) != {1} for side in ("lhs", "rhs"))


def max_pool(images: Images, window: int, stride: int, padding: Sequence[tuple[int, int]]) -> Maps:
    """The largest value in each window of `window` x `window` pixels; padding (rows, columns) never wins.

    It is `max_of_slices` on a CPU and `max_of_windows` elsewhere, with which ResNet-50 needs 5% less memory and is as
    fast on an H200; a TPU's compiler expects 8% more speed.
    """
    pool = max_of_slices if compilation.on_cpu() else max_of_windows
    return pool(images, window, stride, padding)


def max_of_windows(images: Images, window: int, stride: int, padding: Sequence[tuple[int, int]]) -> Maps:
    """Max pooling as XLA's windowed reduction; one of several tied values has the gradient."""
    return nn.max_pool(images, (window, window), (stride, stride), padding)


def max_of_slices(images: Images, window: int, stride: int, padding: Sequence[tuple[int, int]]) -> Maps:
    """Max pooling as maxima of strided slices, along the width and then the height; tied values share the gradient.

    On CPUs this gradient is several times faster than that of XLA's windowed reduction.
    """
    rows, columns = padding
    lowest = jnp.asarray(-jnp.inf, images.dtype)
    images = lax.pad(images, lowest, [(0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)])
    for axis in (2, 1):
        last = images.shape[axis] - window
        places = [lax.slice_in_dim(images, i, last + i + 1, stride, axis) for i in range(window)]
        images = functools.reduce(jnp.maximum, places)
    return images


def stores_centred_images() -> bool:
    """True where batch normalisation stores x - mean for its gradients, and takes the variance from it."""
    return compilation.tuned_for_cpu()


def all_before_updates(gradients: PyTree) -> PyTree:
    """The gradients; if one is large, XLA's CPU backend computes all before it updates the first parameter.

    Otherwise it copies large kernels in each update, so that it may change them before the gradients of their layers'
    inputs are computed. Without these copies the one-column AlexNet with 8 images trains 1.1 times as fast.
    """
    large = any(leaf.size >= _LARGE_KERNEL for leaf in jax.tree.leaves(gradients))
    return lax.optimization_barrier(gradients) if large and compilation.tuned_for_cpu() else gradients


def _suits_winograd(lhs: Array, rhs: Array, strides: Sequence[int], padding: Any, options: dict[str, Any]) -> bool:
    exact = options.get("precision") or getattr(jax.config, "jax_default_matmul_precision", None) in _EXACT
    unit = tuple(strides) == (1, 1) and tuple(map(tuple, padding)) == ((1, 1), (1, 1))
    plain = unit and not _is_dilated(options) and not exact
    return plain and lhs.dtype == rhs.dtype == jnp.float32 and winograd.is_faster(lhs.shape, rhs.shape)


def product(
    inputs: Float[Array, "*batch in_features"],
    kernel: Float[Array, "in_features features"],
    dimension_numbers: lax.DotDimensionNumbers,
    **options: Any,
) -> Float[Array, "*batch features"]:
    """The result of lax.dot_general; for the argument `dot_general` of flax.linen.Dense.

    On CPU the input gradient of a large layer, G W^T, is computed as (W G^T)^T, which is then differentiable in
    reverse mode only. XLA would transpose W, which takes longer than the product: with 8 rows and the 9216 x 4096
    weights of AlexNet's fc6, 74 ms instead of 11; with 128 rows, 437 instead of 72; with 4 rows and VGG's
    25088 x 4096, 570 instead of 38 (two Zen 4 cores).
    """
    # First the device: in a program for others the number of rows may be a symbol, which compares with no number.
    tuned = compilation.tuned_for_cpu() and dimension_numbers == _OF_MATRICES and kernel.size >= _LARGE_KERNEL
    if tuned and inputs.shape[0] < kernel.shape[0]:
        return _product(inputs, kernel, tuple(options.items()))
    return lax.dot_general(inputs, kernel, dimension_numbers, **options)


_OF_MATRICES = (((1,), (0,)), ((), ()))  # dimension numbers: rows by columns
_LARGE_KERNEL = 2**18  # numbers; smaller ones stay in a cache, and their transposition costs little


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(inputs: Array, kernel: Array, options: tuple[tuple[str, Any], ...]) -> Array:
    return lax.dot_general(inputs, kernel, _OF_MATRICES, **dict(options))


def _product_forward(inputs: Array, kernel: Array, options: tuple) -> tuple[Array, tuple[Array, Array]]:
    return _product(inputs, kernel, options), (inputs, kernel)


def _product_backward(options: tuple, kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """The barriers keep XLA from moving the transpositions of the small arrays to the large one."""
    inputs, kernel = kept
    turned = lax.optimization_barrier(gradient.T)
    of_inputs = lax.optimization_barrier(lax.dot_general(kernel, turned, _OF_MATRICES, **dict(options))).T
    of_kernel = lax.dot_general(inputs, gradient, (((0,), (0,)), ((), ())), **dict(options))
    return of_inputs.astype(inputs.dtype), of_kernel.astype(kernel.dtype)


_product.defvjp(_product_forward, _product_backward)
