"""Operations whose fastest form depends on the device. The result is the same everywhere, to rounding."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, PyTree

from common.devices import attention, compilation
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
    return product(rows, rhs[0, 0], _OF_MATRICES, precision=precision).reshape(*seen.shape[:-1], -1)


def _is_plain(lhs: Array, rhs: Array, options: dict[str, Any]) -> bool:
    """True for an undilated convolution in float32."""
    dilated = any(set(options.get(f"{side}_dilation") or [1]) != {1} for side in ("lhs", "rhs"))
    return not dilated and lhs.dtype == rhs.dtype == jnp.float32


def sums_of_fours(images: Images) -> Maps:
    """The sum of each block of 2x2 pixels; height and width must be even.

    On a CPU its gradient is written as copies of whole rows, which XLA fuses with what comes before it: one image at a
    time, LeNet-5 trains 1.04 times as fast (one Zen 4 core). It is then differentiable in reverse mode only.
    """
    return _sums_with_copied_gradient(images) if compilation.tuned_for_cpu() else blocks_of_fours(images, jnp.add)


def blocks_of_fours(images: Images, operator: Callable[[Array, Array], Array]) -> Maps:
    """Reduces each block of 2x2 pixels with `operator`; height and width must be even."""
    batch, height, width, channels = images.shape
    # Left and right neighbours stand side by side in the last axis, so each half is contiguous, not strided.
    pairs = images.reshape(batch, height // 2, 2, width // 2, 2 * channels)
    columns = operator(pairs[:, :, 0], pairs[:, :, 1])
    return operator(columns[..., :channels], columns[..., channels:])


@jax.custom_vjp
def _sums_with_copied_gradient(images: Images) -> Maps:
    return blocks_of_fours(images, jnp.add)


def _sums_forward(images: Images) -> tuple[Maps, None]:
    return blocks_of_fours(images, jnp.add), None


def _sums_backward(_: None, gradient: Maps) -> tuple[Images]:
    batch, height, width, channels = gradient.shape
    row = lax.optimization_barrier(jnp.concatenate([gradient, gradient], -1)).reshape(batch, height, 1, -1)
    rows = jnp.broadcast_to(row, (batch, height, 2, row.shape[-1]))
    return (rows.reshape(batch, 2 * height, 2 * width, channels),)


_sums_with_copied_gradient.defvjp(_sums_forward, _sums_backward)


def max_pool(images: Images, window: int, stride: int, padding: Sequence[tuple[int, int]]) -> Maps:
    """The largest value in each window of `window` x `window` pixels; padding (rows, columns) never wins.

    It is `max_of_slices` on a CPU and `max_of_windows` elsewhere. With windows, ResNet-50 on an H200 is as fast and
    needs 5% less memory; for a TPU, the compiler expects 8% more speed.
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
    """The gradients; if one is large, XLA's CPU backend computes all but those of matrices before the first update.

    Otherwise it copies large kernels in each update, so that it may change them before the gradients of their layers'
    inputs are computed. For matrices, the kernels of dense layers, `product` sees to this: their gradients may then
    become a part of the update.
    """
    leaves, structure = jax.tree.flatten(gradients)
    if not compilation.tuned_for_cpu() or all(leaf.size < _LARGE_KERNEL for leaf in leaves):
        return gradients
    tied = iter(lax.optimization_barrier([leaf for leaf in leaves if leaf.ndim != 2]))
    return structure.unflatten([leaf if leaf.ndim == 2 else next(tied) for leaf in leaves])


def _keeps_size(lhs: Array, rhs: Array, strides: Sequence[int], padding: Any, options: dict[str, Any]) -> bool:
    """True for an undilated 3x3 convolution in float32 at stride 1, padded by 1."""
    unit = tuple(strides) == (1, 1) and tuple(map(tuple, padding)) == ((1, 1), (1, 1))
    return unit and rhs.shape[:2] == (3, 3) and _is_plain(lhs, rhs, options)


def _is_exact(options: dict[str, Any]) -> bool:
    """True if a precision was given for this convolution, or a high one for all products."""
    return bool(options.get("precision")) or getattr(jax.config, "jax_default_matmul_precision", None) in _EXACT


def product(
    inputs: Float[Array, "*batch_and_in_features"],
    kernel: Float[Array, "*in_and_out_features"],
    dimension_numbers: lax.DotDimensionNumbers,
    **options: Any,
) -> Float[Array, "*batch_and_features"]:
    """The result of lax.dot_general; for the argument `dot_general` of flax.linen.Dense and DenseGeneral.

    On CPU some products have gradients of their own, and are then differentiable in reverse mode only:

    - The input gradient of a large layer, G W^T, is computed as (W G^T)^T. XLA would transpose W, which takes longer
      than the product: with 8 rows and the 9216 x 4096 weights of AlexNet's fc6, 74 ms instead of 11; with 128 rows,
      437 instead of 72; with 4 rows and VGG's 25088 x 4096, 570 instead of 38 (two Zen 4 cores).
    - The gradient of a large kernel, or of any kernel and a single row, is computed after that of the inputs. XLA might
      otherwise copy the kernel, so that it may update it first: one image at a time, LeNet-5 trains 1.06 times as fast
      without these copies (one Zen 4 core). With at most 8 rows and a large kernel it is a sum, see `is_sum_of_rows`.
    - Inputs of several axes, such as a ViT's tokens, become the rows of a matrix. XLA would transpose G for the
      gradient of the weights: with 1576 rows and 192 x 768 weights, 13.0 ms instead of 8.2 (one Zen 3 core).
    """
    # Check the device first: in an exported program the number of rows may be a symbol that cannot be compared.
    if not compilation.tuned_for_cpu():
        return lax.dot_general(inputs, kernel, dimension_numbers, **options)
    given = tuple(options.items())
    if dimension_numbers == _OF_MATRICES and inputs.ndim == 2:
        if _updates_last(inputs, kernel):
            return _product(inputs, kernel, given)
    elif (summed := _summed_axes(inputs, kernel, dimension_numbers)) is not None:
        size = math.prod(kernel.shape[:summed])
        rows = _product(inputs.reshape(-1, size), kernel.reshape(size, -1), given)
        return checkpoint_name(rows.reshape(*inputs.shape[: inputs.ndim - summed], *kernel.shape[summed:]), _PRODUCT)
    return lax.dot_general(inputs, kernel, dimension_numbers, **options)


_OF_MATRICES = (((1,), (0,)), ((), ()))  # dimension numbers: rows by columns
_LARGE_KERNEL = 2**18  # numbers; smaller ones stay in a cache, and their transposition costs little
_PRODUCT = "product"

# A policy for `jax.checkpoint`: it keeps products with weights and results of attention, and recomputes the rest.
KEEPS_PRODUCTS = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    # `dots_with_no_batch_dims_saveable` does not see the products inside `_product`, which has its own gradient.
    jax.checkpoint_policies.save_only_these_names(_PRODUCT, attention.RESULT),
)


def _summed_axes(inputs: Array, kernel: Array, dimension_numbers: lax.DotDimensionNumbers) -> int | None:
    """The number of last axes of the inputs that are summed with the kernel's first ones; None for another product."""
    (summed, with_kernel), batch = dimension_numbers
    count = len(summed)
    last, first = tuple(range(inputs.ndim - count, inputs.ndim)), tuple(range(count))
    plain = tuple(summed) == last and tuple(with_kernel) == first and not any(map(len, batch))
    return count if plain else None


def _is_large_for(rows: Array, kernel: Array) -> bool:
    """True if transposing the kernel takes longer than multiplying the rows by it."""
    return kernel.size >= _LARGE_KERNEL and rows.shape[0] < kernel.shape[0]


def _updates_last(rows: Array, kernel: Array) -> bool:
    """True if the kernel's gradient waits for that of the rows."""
    return kernel.size >= _LARGE_KERNEL or len(rows) == 1


def wait_for_all(*arrays: Array) -> tuple[Array, ...]:
    """The same arrays; whatever is computed from one of them waits for all."""
    return lax.optimization_barrier(arrays)


def is_sum_of_rows(rows: int, size: int, dtype: jnp.dtype) -> bool:
    """True if the gradient of a kernel of `size` numbers is a sum of outer products, one for each row.

    XLA fuses this sum with the optimizer's update, so that the gradient is never stored. A layer of 9216 x 4096 weights
    and its update with momentum take 0.75 to 0.87 of the time with up to 8 rows, 0.9 with 12, 0.98 with 16 and 1.2 with
    24; with AdamW, which reads the gradient twice, 0.8 to 0.9 with up to 8 rows and 1.08 with 12 (two Zen 4 cores).
    """
    return size >= _LARGE_KERNEL and rows <= 8 and dtype.itemsize >= 4  # others would be rounded after each row


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(inputs: Array, kernel: Array, options: tuple[tuple[str, Any], ...]) -> Array:
    return lax.dot_general(inputs, kernel, _OF_MATRICES, **dict(options))


def _product_forward(inputs: Array, kernel: Array, options: tuple) -> tuple[Array, tuple[Array, Array]]:
    return _product(inputs, kernel, options), (inputs, kernel)


def _product_backward(options: tuple, kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """The barriers keep XLA from moving the transpositions of the small arrays to the large one."""
    inputs, kernel = kept
    multiplied: Callable[..., Array] = functools.partial(lax.dot_general, **dict(options))
    if _is_large_for(inputs, kernel):
        turned = lax.optimization_barrier(gradient.T)
        of_inputs = lax.optimization_barrier(multiplied(kernel, turned, _OF_MATRICES)).T
    else:
        of_inputs = multiplied(gradient, kernel, (((1,), (1,)), ((), ())))
    if _updates_last(inputs, kernel):
        of_inputs, inputs, gradient = wait_for_all(of_inputs, inputs, gradient)
    of_rows = (((0,), (0,)), ((), ()))
    if is_sum_of_rows(inputs.shape[0], kernel.size, gradient.dtype):
        of_kernel = sum(x[:, None] * g[None] for x, g in zip(inputs, gradient, strict=True))
    elif inputs.shape[0] > kernel.shape[0] > kernel.shape[1]:
        of_kernel = lax.optimization_barrier(multiplied(gradient, inputs, of_rows)).T
    else:
        of_kernel = multiplied(inputs, gradient, of_rows)
    return of_inputs.astype(inputs.dtype), of_kernel.astype(kernel.dtype)


_product.defvjp(_product_forward, _product_backward)
