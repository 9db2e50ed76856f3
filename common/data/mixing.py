"""Mixup (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"): images and labels blended in pairs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def mixup(
    key: Key[Array, ""],
    images: Float[Array, "batch height width channels"],
    labels: Float[Array, "batch classes"],
    alpha: float,
) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch classes"]]:
    """Each image and its distribution over classes blended with the one before it in the batch.

    One share is drawn from Beta(alpha, alpha) for the whole batch; the larger of it and the rest is the image's own,
    so that an image's likeliest label stays its own (as Beyer, Zhai, Kolesnikov 2022 do). alpha: above 0.
    """
    share = jax.random.beta(key, alpha, alpha)
    share = jnp.maximum(share, 1.0 - share)
    return tuple(share * array + (1.0 - share) * jnp.roll(array, 1, axis=0) for array in (images, labels))
