"""LeCun's diagonal second derivatives (1998, section III-B and appendix C), by reverse-mode differentiation.

The diagonal Gauss-Newton recursion is back-propagation with every first derivative squared:

    h(a_i) = f'(a_i)^2 h(x_i)               through a squashing function x_i = f(a_i)
    h(x_j) = sum_i w_ij^2 h(a_i)            through a weighted sum a_i = sum_j w_ij x_j
    h(w_k) = sum_(i,j) x_j^2 h(a_i)         over the connections (i, j) that share the weight w_k

where h(.) is d2E/d(.)^2 with the f'' term dropped. So each operation gets a twin, with the same values
forward and the rule above backward. Differentiating a network of twins carries h where gradients usually flow, and
h_kk arrives at the parameters. Sums, additions and indexing need no twin: their weights, 0 and 1, equal their squares.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree

from common.devices import compilation

Operation = Callable[..., Array]

# A CPU estimates the curvature with so many examples at a time. Their values stay in its cache: with all of the paper's
# 500 at once, LeNet-5 takes 1.8 times as long (one EPYC core).
_EXAMPLES = 50


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def bilinear(operation: Operation, inputs: Float[Array, "..."], weights: Float[Array, "..."]) -> Float[Array, "..."]:
    """Twin of `operation(inputs, weights)`, which is linear in each; back-propagates with both squared."""
    return operation(inputs, weights)


def _bilinear_forward(operation, inputs, weights):
    return operation(inputs, weights), (inputs, weights)


def _bilinear_backward(operation, saved, curvature):
    inputs, weights = saved
    _, back_propagate = jax.vjp(operation, inputs**2, weights**2)
    return back_propagate(curvature)


bilinear.defvjp(_bilinear_forward, _bilinear_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def elementwise(function: Operation, inputs: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Twin of the elementwise `function(inputs)`; back-propagates with f'(a)^2."""
    return function(inputs)


def _elementwise_forward(function, inputs):
    return function(inputs), inputs


def _elementwise_backward(function, inputs, curvature):
    outputs, back_propagate = jax.vjp(function, inputs)
    (slopes,) = back_propagate(jnp.ones_like(outputs))
    return (slopes**2 * curvature,)


elementwise.defvjp(_elementwise_forward, _elementwise_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def squared_distances(
    operation: Operation, inputs: Float[Array, "batch features"], centres: Float[Array, "classes features"]
) -> Float[Array, "batch classes"]:
    """Twin of `operation(inputs, centres)`, the penalties y_i = sum_j (x_j - w_ij)^2.

    Here first derivatives become second ones: given dE/dy_i it returns h(x_j) = sum_i 2 dE/dy_i. The centres are
    constants and get nothing.
    """
    return operation(inputs, centres)


def _squared_distances_forward(operation, inputs, centres):
    return operation(inputs, centres), (inputs, centres)


def _squared_distances_backward(operation, saved, slopes):
    inputs, centres = saved
    return jnp.broadcast_to(2 * slopes.sum(-1, keepdims=True), inputs.shape), jnp.zeros_like(centres)


squared_distances.defvjp(_squared_distances_forward, _squared_distances_backward)


def correct_penalty_seed(
    penalties: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, "batch classes"]:
    """dE/dy for the correct class's penalty alone, so that h = 2 at each output of F6 (eq. 8).

    Used for eq. 9 too: the paper does not say what its log term adds, and dropping it keeps h positive.
    """
    return jax.nn.one_hot(labels, penalties.shape[-1], dtype=penalties.dtype)


def place_coded_seed(
    outputs: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, "batch classes"]:
    """Second derivative of the mean over the outputs of (output - target)^2: 2 / classes at each."""
    del labels
    return jnp.full_like(outputs, 2 / outputs.shape[-1])


def softmax_seed(logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Float[Array, "batch classes"]:
    """Diagonal of the Hessian of softmax cross-entropy at the logits, p (1 - p): exact, whatever the label."""
    del labels
    probabilities = jax.nn.softmax(logits)
    return probabilities * (1 - probabilities)


def diagonal(
    module: nn.Module,
    seed: Callable[[Any, Array], Array],
    params: PyTree,
    images: Float[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
) -> PyTree:
    """h_kk for every parameter: the mean over the batch of the per-example diagonal Gauss-Newton recursion.

    module: a network with the field `second_order`; seed: (outputs, labels) -> the values that start the recursion
    at the outputs. Every rule is linear in h and keeps examples apart until it reaches the parameters. So one pass,
    with the seed divided by the size of the batch, gives the mean over examples of the sum over connections.
    """
    # Squares of small derivatives lose too much in bfloat16, and for the paper's 500 examples float32 is fast enough.
    twin = module.clone(second_order=True, dtype="float32")

    def share(some_images: Array, their_labels: Array) -> PyTree:
        """The part of the mean that these examples contribute."""
        outputs, back_propagate = jax.vjp(lambda params: twin.apply({"params": params}, some_images), params)
        (curvature,) = back_propagate(seed(outputs, their_labels) / len(labels))
        return curvature

    def add(total: PyTree, examples: tuple[Array, ...]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, share(*examples)), None

    count = len(labels) // _EXAMPLES if compilation.on_cpu() else 0
    if not count:
        return share(images, labels)
    end = count * _EXAMPLES
    parts = [array[:end].reshape(count, _EXAMPLES, *array.shape[1:]) for array in (images, labels)]
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), tuple(parts))
    return total if end == len(labels) else add(total, (images[end:], labels[end:]))[0]
