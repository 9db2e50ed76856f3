"""Losses that several families share, one number per example."""

import numpy as np
import optax
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"] | Float[Array, "batch classes"]
) -> Float[Array, " batch"]:
    """Softmax cross-entropy in nats, against class indices or distributions over classes.

    Computed in float32 whatever the logits' type.
    """
    logits = logits.astype("float32")
    if labels.ndim == 1:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return optax.softmax_cross_entropy(logits, labels)


def balanced_weights(labels: Int[np.ndarray, " examples"], num_classes: int) -> Float[np.ndarray, " classes"]:
    """A factor for the losses of each class, inversely proportional to its number of examples.

    The mean over all examples is 1 (scikit-learn's 'balanced'). Classes without examples get 0, which is never used.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = counts > 0
    weights = np.zeros(num_classes, np.float32)
    weights[present] = len(labels) / (np.count_nonzero(present) * counts[present])
    return weights
