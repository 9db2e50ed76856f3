"""Sums over examples, which add up to an epoch on the device, their means, and the check that no loss has diverged."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PyTree

from common.errors import UserError
from common.training.state import TrainState

NEVER = jnp.iinfo(jnp.int32).max  # the `bad_step` of a run in which every loss was finite


class Totals(struct.PyTreeNode):
    """Sums over examples.

    loss: nats (or the classifier's own unit); errors, top5_errors: examples whose label is not the likeliest class,
    or not among the five likeliest; count: examples; bad_step: the first update whose loss was not finite.
    """

    loss: Float[Array, ""]
    errors: Float[Array, ""]
    top5_errors: Float[Array, ""]
    count: Float[Array, ""]
    bad_step: Int[Array, ""]

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            loss=self.loss + other.loss,
            errors=self.errors + other.errors,
            top5_errors=self.top5_errors + other.top5_errors,
            count=self.count + other.count,
            bad_step=jnp.minimum(self.bad_step, other.bad_step),
        )


def no_totals() -> Totals:
    """The totals of no examples."""
    loss, errors, top5_errors, count = (jnp.zeros((), jnp.float32) for _ in range(4))
    return Totals(loss, errors, top5_errors, count, bad_step=jnp.asarray(NEVER, jnp.int32))


def totals(
    losses: Float[Array, " batch"],
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    mask: Bool[Array, " batch"],
) -> Totals:
    """The sums over the examples that `mask` selects."""
    ahead = _ahead(logits, labels)
    return Totals(
        loss=jnp.sum(jnp.where(mask, losses, 0.0), dtype=jnp.float32),
        errors=jnp.sum(mask & (ahead >= 1), dtype=jnp.float32),
        top5_errors=jnp.sum(mask & (ahead >= 5), dtype=jnp.float32),
        count=jnp.sum(mask, dtype=jnp.float32),
        bad_step=jnp.asarray(NEVER, jnp.int32),
    )


def class_counts(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"], mask: Bool[Array, " batch"]
) -> Int[Array, "2 classes"]:
    """The numbers of examples and of errors of each class, among the examples that `mask` selects."""
    counted = jnp.stack([mask, mask & (_ahead(logits, labels) >= 1)]).astype(jnp.int32)
    return jnp.zeros((2, logits.shape[-1]), jnp.int32).at[:, labels].add(counted)


def _ahead(logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Int[Array, " batch"]:
    """For each example, the number of classes that are likelier than its label."""
    label_logits = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    # As with an arg-max, a tie is an error unless the label comes first. A NaN is always one: it is behind nothing.
    first = jnp.arange(logits.shape[-1]) < labels[:, None]
    behind = (logits < label_logits) | ((logits == label_logits) & ~first)
    return jnp.sum(~behind, axis=-1)


def means(sums: Totals) -> dict[str, float]:
    """Means per example: loss, error and top5_error (fractions), and the number of examples."""
    loss, errors, top5_errors, count = jax.device_get((sums.loss, sums.errors, sums.top5_errors, sums.count))
    return {
        "loss": float(loss / max(count, 1)),
        "error": float(errors / max(count, 1)),
        "top5_error": float(top5_errors / max(count, 1)),
        "examples": int(count),
    }


def diverged(step: int) -> UserError:
    """The error of a run whose loss at `step` is not finite."""
    return UserError(
        f"the loss is not finite at step {step}: training has diverged; the checkpoints before it are kept. "
        "Lower config.schedule.learning_rate (or its rates) or lengthen config.schedule.warmup and go on, or start "
        "again with config.optimizer.clip_norm"
    )


def stop_if_diverged(state: TrainState, sums: Totals) -> None:
    """Raises a UserError that names the step if a loss, parameter or batch statistic is not finite.

    A run calls it before it saves, so such a state is never saved.
    """
    step = int(sums.bad_step)
    if step == NEVER and not _all_finite((state.params, state.model_state)):
        step = int(state.step)
    if step != NEVER:
        raise diverged(step)


@jax.jit
def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
