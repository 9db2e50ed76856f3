"""Products with weights in the form that is fastest on the device, with gradients that suit the optimizer's update."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, PyTree

from common.devices import attention, compilation

OF_MATRICES = (((1,), (0,)), ((), ()))  # dimension numbers: rows by columns
_LARGE_KERNEL = 2**18  # numbers; smaller ones stay in a cache, and their transposition costs little
_PRODUCT = "product"

# A policy for `jax.checkpoint`: it keeps products with weights and results of attention, and recomputes the rest.
KEEPS_PRODUCTS = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    # `dots_with_no_batch_dims_saveable` does not see the products inside `_product`, which has its own gradient.
    jax.checkpoint_policies.save_only_these_names(_PRODUCT, attention.RESULT),
)


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
    if dimension_numbers == OF_MATRICES and inputs.ndim == 2:
        if _updates_last(inputs, kernel):
            return _product(inputs, kernel, given)
    elif (summed := _summed_axes(inputs, kernel, dimension_numbers)) is not None:
        size = math.prod(kernel.shape[:summed])
        rows = _product(inputs.reshape(-1, size), kernel.reshape(size, -1), given)
        return checkpoint_name(rows.reshape(*inputs.shape[: inputs.ndim - summed], *kernel.shape[summed:]), _PRODUCT)
    return lax.dot_general(inputs, kernel, dimension_numbers, **options)


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
    return lax.dot_general(inputs, kernel, OF_MATRICES, **dict(options))


def _product_forward(inputs: Array, kernel: Array, options: tuple) -> tuple[Array, tuple[Array, Array]]:
    return _product(inputs, kernel, options), (inputs, kernel)


def _product_backward(options: tuple, kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """The barriers keep XLA from moving the transpositions of the small arrays to the large one."""
    inputs, kernel = kept
    multiplied: Callable[..., Array] = functools.partial(lax.dot_general, **dict(options))
    if _is_large_for(inputs, kernel):
        turned = lax.optimization_barrier(gradient.T)
        of_inputs = lax.optimization_barrier(multiplied(kernel, turned, OF_MATRICES)).T
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
    return jax.tree.unflatten(structure, [leaf if leaf.ndim == 2 else next(tied) for leaf in leaves])
