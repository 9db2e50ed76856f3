"""Mixup: pairs blended by one share, in the update and on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from common.data import mixing

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4, 4, 1)), jnp.float32)
LABELS = jax.nn.one_hot(jnp.arange(6), 6)
mixup = jax.jit(mixing.mixup, static_argnames="alpha")


def share(labels):
    """The own label's part in a mixed batch of distinct labels."""
    return np.diag(np.asarray(labels))


def test_images_and_labels_are_blended_alike_with_the_one_before():
    images, labels = mixup(jax.random.key(0), IMAGES, LABELS, alpha=0.4)
    own = share(labels)
    assert np.ptp(own) == 0
    assert 0.5 <= own[0] <= 1
    before = np.roll(np.arange(6), 1)
    np.testing.assert_allclose(labels[np.arange(6), before], 1 - own, atol=1e-6)
    expected = own[0] * np.asarray(IMAGES) + (1 - own[0]) * np.asarray(IMAGES)[before]
    np.testing.assert_allclose(images, expected, atol=1e-6)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)


def test_the_share_is_a_betas_larger_part():
    keys = jax.random.split(jax.random.key(1), 2000)
    draw = jax.jit(jax.vmap(lambda key: mixing.mixup(key, IMAGES[:2, :1, :1], LABELS[:2, :2], 0.2)[1][0, 0]))
    shares, beta = np.asarray(draw(keys)), stats.beta(0.2, 0.2)
    assert shares.min() >= 0.5
    for limit in (0.6, 0.8, 0.95, 0.999):
        assert np.mean(shares < limit) == pytest.approx(beta.cdf(limit) - beta.cdf(1 - limit), abs=0.045)


def test_mixing_is_a_function_of_the_key():
    first, again, other = (share(mixup(jax.random.key(k), IMAGES, LABELS, alpha=1.0)[1])[0] for k in (3, 3, 4))
    assert first == again != other
