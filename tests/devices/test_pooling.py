"""Tests that pooling in a form of its own has the values and gradients of XLA's windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.devices import pooling


@pytest.mark.parametrize("channels", [1, 6, 16])
def test_sums_of_fours_and_their_gradient_are_those_of_a_window(channels):
    rng = np.random.default_rng(0)
    images, slopes = (jnp.float32(rng.normal(size=(2, *shape, channels))) for shape in ((6, 8), (3, 4)))

    def windows(images):
        return jax.lax.reduce_window(images, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def sums_and_gradient(function):
        sums, pullback = jax.vjp(function, images)
        return sums, *pullback(slopes)

    ours, theirs = sums_and_gradient(pooling.sums_of_fours), sums_and_gradient(windows)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6), ours, theirs)
