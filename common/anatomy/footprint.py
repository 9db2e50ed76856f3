"""The memory that training a network takes: parameters, state, and the activations kept for the backward pass."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend import core
from jaxtyping import Array, Float, Int, PyTree

from common.anatomy import layer_table
from common.devices import compilation
from common.errors import UserError
from common.models import Classifier

_BATCH = 256  # at least, so that what does not grow with the batch hardly counts


class Memory(NamedTuple):
    """Bytes of the parameters, of the other variables, and of the activations that one image adds.

    The activations are those that automatic differentiation keeps; the compiler shares or recomputes some of them.
    """

    parameters: int
    state: int
    activations: int


def memory(classifier: Classifier) -> Memory:
    """The memory that training the classifier takes."""
    variables = layer_table.variable_shapes(classifier.module, classifier.input_shape)
    params = variables.pop("params", {})
    size = _batch_size(classifier.module)
    # The difference of two batches leaves out what does not grow with the batch.
    small, large = (activation_bytes(classifier, params, variables, count) for count in (size, 2 * size))
    return Memory(_bytes(params), _bytes(variables), (large - small) // size)


def _batch_size(module: nn.Module) -> int:
    """A batch that splits into the groups of a network's batch normalisation, with two examples or more in each."""
    groups = math.prod(getattr(module, name, 1) or 1 for name in ("batch_groups", "ghost_batches"))
    return max(math.ceil(_BATCH / groups), 2) * groups


def activation_bytes(classifier: Classifier, params: PyTree, model_state: PyTree, batch_size: int) -> int:
    """Bytes that a training step on `batch_size` examples keeps between its forward and its backward pass.

    params, model_state: arrays or their shapes. The bytes are read off the traced program, so nothing is computed:
    every value that the gradient needs counts once, unless it is a parameter or the input. A compiler may keep less
    (it fuses) or a little more (temporaries). Rematerialised blocks count only with their inputs. Raises UserError if
    the network's logits do not have the shape of the batch and the classes.
    """
    images = jax.ShapeDtypeStruct((batch_size, *classifier.input_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)

    def residuals(
        params: PyTree,
        model_state: PyTree,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
        key: Array,
    ) -> list[Array]:
        def mean_loss(params: PyTree) -> Float[Array, ""]:
            variables = {"params": params, **model_state}
            outputs, _ = classifier.module.apply(
                variables, images, train=True, rngs={"dropout": key}, mutable=list(model_state)
            )
            _check_logits(classifier.logits(outputs), (batch_size, classifier.num_classes))
            return jnp.mean(classifier.loss(outputs, labels))

        return jax.tree.leaves(jax.vjp(mean_loss, params)[1])

    with compilation.portable():  # formulations for a CPU keep other values
        program = jax.make_jaxpr(residuals)(params, model_state, images, labels, jax.random.key(0)).jaxpr
    kept = {value for value in program.outvars if isinstance(value, core.Var)} - set(program.invars)
    return sum(_bytes(value.aval) for value in kept)


def _check_logits(logits: Array, expected: tuple[int, int]) -> None:
    """Raises UserError for a network, such as a new one, whose outputs are no logits."""
    if logits.shape != expected:
        raise UserError(
            f"the network's logits have shape {logits.shape}; expected {expected}, the batch and the classes (are the "
            "maps flattened before the last layer?)"
        )


def _bytes(tree: PyTree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
