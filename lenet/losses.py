"""The losses of the LeNets: one number per example; labels are class indices."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def penalty_mse(penalties: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """Penalty of the correct class, y_D (1998, eq. 8)."""
    # A one-hot sum rather than indexing, whose gradient is a scatter: slow in a batch-1 loop on a CPU.
    return jnp.sum(jax.nn.one_hot(labels, penalties.shape[-1]) * penalties, axis=-1)


def penalty_map(
    penalties: Float[Array, "batch classes"], labels: Int[Array, " batch"], rubbish: float
) -> Float[Array, " batch"]:
    """Discriminative maximum a posteriori loss, y_D + log(e^-j + sum_i e^-y_i) (1998, eq. 9).

    rubbish: the constant j > 0, the penalty of a "rubbish" class. The loss does not push wrong classes far above it.
    """
    log_evidence = jax.nn.logsumexp(-penalties, axis=-1)
    return penalty_mse(penalties, labels) + jnp.logaddexp(-rubbish, log_evidence)


def place_coded_mse(outputs: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """Mean over the outputs of (output - target)^2, target +1 for the class and -1 elsewhere (1989).

    +-1 lie inside the quasi-linear range of the scaled tanh, which passes through (1, 1) and (-1, -1).
    """
    targets = 2 * jax.nn.one_hot(labels, outputs.shape[-1]) - 1
    return jnp.mean((outputs - targets) ** 2, axis=-1)
