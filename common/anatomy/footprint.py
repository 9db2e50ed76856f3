"""How much memory activations take: what the forward pass keeps for the backward pass."""

import math

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import PyTree

from common.models import Classifier


def activation_bytes(classifier: Classifier, params: PyTree, model_state: PyTree, batch_size: int) -> int:
    """Bytes that a training step on `batch_size` examples keeps between its forward and its backward pass.

    params, model_state: arrays or their shapes. Read off the traced program, so nothing is computed: every value that
    the gradient needs and that is neither a parameter nor the input counts once. A compiler may keep less (it fuses)
    or a little more (temporaries); rematerialised blocks count with their inputs alone.
    """
    images = jax.ShapeDtypeStruct((batch_size, *classifier.input_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)

    def residuals(params, model_state, images, labels, key):  # noqa: ANN001, ANN202
        def mean_loss(params):  # noqa: ANN001, ANN202
            variables = {"params": params, **model_state}
            outputs, _ = classifier.module.apply(
                variables, images, train=True, rngs={"dropout": key}, mutable=list(model_state)
            )
            return jnp.mean(classifier.loss(outputs, labels))

        return jax.tree.leaves(jax.vjp(mean_loss, params)[1])

    program = jax.make_jaxpr(residuals)(params, model_state, images, labels, jax.random.key(0)).jaxpr
    kept = {value for value in program.outvars if isinstance(value, core.Var)} - set(program.invars)
    return sum(math.prod(value.aval.shape) * value.aval.dtype.itemsize for value in kept)
