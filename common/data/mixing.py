"""Augmentation that mixes pairs of examples: mixup and CutMix, pure functions of a key and a batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from common.data.transforms import Images

Labels = Float[Array, "batch classes"]


def mix(
    key: Key[Array, ""], images: Images, labels: Labels, *, mixup_alpha: float, cutmix_alpha: float
) -> tuple[Images, Labels]:
    """The batch after mixup or CutMix, whose alpha is above 0; if both are, after a random one (Touvron 2021, DeiT)."""
    if mixup_alpha and cutmix_alpha:
        coin_key, key = jax.random.split(key)
        return jax.lax.cond(
            jax.random.bernoulli(coin_key),
            lambda: mixup(key, images, labels, mixup_alpha),
            lambda: cutmix(key, images, labels, cutmix_alpha),
        )
    if mixup_alpha:
        return mixup(key, images, labels, mixup_alpha)
    return cutmix(key, images, labels, cutmix_alpha) if cutmix_alpha else (images, labels)


def mixup(key: Key[Array, ""], images: Images, labels: Labels, alpha: float) -> tuple[Images, Labels]:
    """Each image and its class probabilities blended with the image before it in the batch (Zhang et al. 2018).

    One share is drawn from Beta(alpha, alpha), alpha > 0, for the whole batch. The image keeps the larger part, so
    that its likeliest label stays its own (as in Beyer, Zhai, Kolesnikov 2022).
    """
    share = jax.random.beta(key, alpha, alpha)
    share = jnp.maximum(share, 1.0 - share)
    images, labels = (share * array + (1.0 - share) * jnp.roll(array, 1, axis=0) for array in (images, labels))
    return images, labels


def cutmix(key: Key[Array, ""], images: Images, labels: Labels, alpha: float) -> tuple[Images, Labels]:
    """Each image with a box of the image before it in the batch, and labels mixed by area (Yun et al. 2019).

    The share that an image keeps is drawn once for the whole batch from Beta(alpha, alpha), alpha > 0 (1 in the paper).
    The box has the rest of the area, the image's shape and a uniformly random centre, and is clipped to the image;
    labels are mixed by the area of the clipped box.
    """
    share_key, centre_key = jax.random.split(key)
    sides = jnp.array(images.shape[1:3])
    lengths = jnp.floor(sides * jnp.sqrt(1.0 - jax.random.beta(share_key, alpha, alpha))).astype(jnp.int32)
    centre = jax.random.randint(centre_key, (2,), 0, sides)
    first, last = (jnp.clip(centre + reach, 0, sides) for reach in (-(lengths // 2), lengths // 2))
    down, across = (
        (jnp.arange(images.shape[1 + i]) >= first[i]) & (jnp.arange(images.shape[1 + i]) < last[i]) for i in (0, 1)
    )
    box = (down[:, None] & across[None, :])[..., None]
    pasted = jnp.prod((last - first) / sides).astype(labels.dtype)
    mixed = (1.0 - pasted) * labels + pasted * jnp.roll(labels, 1, axis=0)
    return jnp.where(box, jnp.roll(images, 1, axis=0), images), mixed
