"""The comparison of a formulation of a convolution with another: its values and gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def assert_same(ours: Callable, xlas: Callable, images_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> None:
    """Asserts that two functions of (images, kernel) have the same maps and gradients, for random numbers."""
    rng = np.random.default_rng(0)
    images, kernel = (jnp.float32(rng.normal(size=shape)) for shape in (images_shape, kernel_shape))
    gradient = jnp.float32(rng.normal(size=jax.eval_shape(xlas, images, kernel).shape))

    @jax.jit
    def both(images, kernel, gradient):
        def result(convolve):
            maps, pullback = jax.vjp(convolve, images, kernel)
            return maps, *pullback(gradient)

        return result(ours), result(xlas)

    for mine, theirs in zip(*both(images, kernel, gradient), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
