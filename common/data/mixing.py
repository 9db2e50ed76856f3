"""Mixup (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"): pairs of examples are blended."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def mixup(
    key: Key[Array, ""],
    images: Float[Array, "batch height width channels"],
    labels: Float[Array, "batch classes"],
    alpha: float,
) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch classes"]]:
    """Each image and its class probabilities blended with the image before it in the batch.

    One share is drawn from Beta(alpha, alpha), alpha > 0, for the whole batch. The image keeps the larger part, so
    that its likeliest label stays its own (as in Beyer, Zhai, Kolesnikov 2022).
    """
    share = jax.random.beta(key, alpha, alpha)
    share = jnp.maximum(share, 1.0 - share)
    images, labels = (share * array + (1.0 - share) * jnp.roll(array, 1, axis=0) for array in (images, labels))
    return images, labels
