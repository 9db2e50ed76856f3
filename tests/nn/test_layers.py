"""Shared layers against float64 references and the papers' equations."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from common.devices import compilation
from common.errors import UserError
from common.nn import layers
from tests.slow import rest_slow


def _reference(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    """Krizhevsky 2012, section 3.3, index by index in float64."""
    x = np.asarray(x, np.float64)
    channels, half = x.shape[-1], size // 2
    scale = np.empty_like(x)
    for i in range(channels):
        scale[..., i] = k + alpha * np.sum(x[..., max(0, i - half) : min(channels - 1, i + half) + 1] ** 2, axis=-1)
    return x / scale**beta


def _reference_gradient(x, cotangent, **constants):
    """Central differences of the reference, in float64."""
    x, step = np.asarray(x, np.float64), 1e-5
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += step
        below[index] -= step
        difference = (_reference(above, **constants) - _reference(below, **constants)) / (2 * step)
        gradient[index] = np.sum(difference * cotangent)
    return gradient


def _normalised(x, cotangent, **constants):
    """Our outputs, and our gradient with respect to x."""

    @jax.jit
    def both(x, cotangent):
        outputs, pullback = jax.vjp(lambda x: layers.local_response_norm(x, **constants), x)
        return outputs, pullback(cotangent)[0]

    return both(jnp.float32(x), jnp.float32(cotangent))


@pytest.mark.parametrize("channels", rest_slow([5, 17, 1, 2, 4], quick=2))
@pytest.mark.parametrize(
    "constants",
    [{}, {"alpha": 0.5, "k": 1.0}, {"size": 3, "beta": 0.5, "alpha": 2.0}, {"size": 9, "beta": 1.3, "alpha": 0.1}],
)
def test_local_response_norm_and_its_gradient_are_the_equations(channels, constants):
    rng = np.random.default_rng(channels)
    x = rng.normal(size=(2, 3, channels))
    cotangent = rng.normal(size=x.shape)
    ours, gradient = _normalised(x, cotangent, **constants)
    np.testing.assert_allclose(ours, _reference(x, **constants), rtol=2e-6)
    np.testing.assert_allclose(gradient, _reference_gradient(x, cotangent, **constants), rtol=1e-5, atol=1e-5)


def test_local_response_norm_of_activations_on_the_papers_scale():
    rng = np.random.default_rng(0)
    x, cotangent = np.maximum(rng.normal(scale=300, size=(1, 96)), 0), rng.normal(size=(1, 96))
    ours, gradient = _normalised(x, cotangent)
    np.testing.assert_allclose(ours, _reference(x), rtol=2e-6)
    np.testing.assert_allclose(gradient, _reference_gradient(x, cotangent), rtol=1e-5, atol=1e-7)


def test_local_response_norm_of_ones_has_the_papers_constants():
    normalized = layers.local_response_norm(jnp.ones(96))
    np.testing.assert_allclose(normalized[2:-2], (2 + 5e-4) ** -0.75, rtol=1e-6)
    np.testing.assert_allclose(normalized[jnp.array([1, -2])], (2 + 4e-4) ** -0.75, rtol=1e-6)
    np.testing.assert_allclose(normalized[jnp.array([0, -1])], (2 + 3e-4) ** -0.75, rtol=1e-6)


def test_dividing_by_the_size_divides_alpha():
    x = 100 * jax.random.normal(jax.random.key(0), (3, 7))
    divided = layers.local_response_norm(x, alpha=5e-4, divide_by_size=True)
    np.testing.assert_allclose(divided, layers.local_response_norm(x, alpha=1e-4), rtol=1e-6)


def test_local_response_norm_computes_in_float32_and_keeps_the_type():
    x = jax.random.normal(jax.random.key(0), (8, 16)).astype(jnp.bfloat16)
    normalized = layers.local_response_norm(x)
    assert normalized.dtype == jnp.bfloat16
    np.testing.assert_array_equal(normalized, layers.local_response_norm(x.astype(jnp.float32)).astype(jnp.bfloat16))


def test_a_window_without_a_middle_is_refused():
    with pytest.raises(ValueError, match="expected an odd size"):
        layers.local_response_norm(jnp.ones(8), size=4)


@pytest.mark.parametrize(("size", "pooled"), [(112, 56), (56, 28), (28, 14), (14, 7), (24, 12), (6, 3), (7, 3), (2, 1)])
def test_ceil_mode_gives_the_papers_map_sizes(size, pooled):
    padding = layers.ceil_padding(size, 3, 2)
    pool = functools.partial(layers.max_pool, window=3, stride=2, padding=(padding, padding))
    assert jax.eval_shape(pool, jnp.ones((1, size, size, 1))).shape == (1, pooled, pooled, 1)


@settings(max_examples=6, deadline=None)
@given(
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    window=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
def test_max_pool_takes_the_largest_of_each_window(height, width, window, stride, padding):
    images = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    padded = np.pad(images, ((0, 0), padding, padding, (0, 0)), constant_values=-np.inf)
    rows = range(0, padded.shape[1] - window + 1, stride)
    columns = range(0, padded.shape[2] - window + 1, stride)
    expected = np.empty((2, len(rows), len(columns), 3), np.float32)
    for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns)):
        expected[:, i, j] = padded[:, row : row + window, column : column + window].max(axis=(1, 2))
    np.testing.assert_array_equal(layers.max_pool(jnp.asarray(images), window, stride, (padding, padding)), expected)


def test_the_gradient_of_max_pool_goes_to_the_largest_and_ties_share_it():
    gradient = jax.jit(jax.grad(lambda x: layers.max_pool(x, 3, 2).sum()))
    values = jnp.arange(25.0).reshape(1, 5, 5, 1)
    expected = np.zeros((5, 5))
    expected[[2, 2, 4, 4], [2, 4, 2, 4]] = 1
    np.testing.assert_array_equal(gradient(values)[0, :, :, 0], expected)
    assert float(gradient(jnp.zeros((1, 5, 5, 1))).sum()) == 4


def test_max_pool_computes_the_same_in_the_formulation_for_accelerators():
    images = jax.random.normal(jax.random.key(0), (2, 7, 9, 3))

    def pooled():  # traced anew each time
        return jax.jit(jax.value_and_grad(lambda x: (layers.max_pool(x, 3, 2, ((1, 1), (0, 2))) ** 2).sum()))(images)

    value, gradient = pooled()
    with compilation.compiled_for("tpu"):
        assert "reduce_window" in str(jax.make_jaxpr(lambda x: layers.max_pool(x, 3, 2))(images))
        again, its_gradient = pooled()
    np.testing.assert_allclose(again, value, rtol=1e-6)
    np.testing.assert_allclose(its_gradient, gradient, rtol=1e-6)  # no two values are tied


def test_adaptive_average_pool_cuts_overlapping_bins():
    rows = jnp.arange(5.0)[None, :, None, None] * jnp.ones((1, 5, 4, 1))
    # Five rows in two bins: 0..2 and 2..4.
    np.testing.assert_allclose(layers.adaptive_average_pool(rows, 2)[0, :, 0, 0], [1, 3])
    np.testing.assert_allclose(layers.adaptive_average_pool(jnp.full((1, 1, 1, 2), 7.0), 6), jnp.full((1, 6, 6, 2), 7))
    images = jax.random.normal(jax.random.key(0), (1, 6, 6, 2))
    np.testing.assert_array_equal(layers.adaptive_average_pool(images, 6), images)


def test_dropout_is_flaxs_with_a_mask_that_is_kept_for_the_gradient():
    x, key = jnp.linspace(-1.0, 2.0, 64).reshape(4, 16), jax.random.key(3)

    def gradient(kind):
        def loss(x):
            return jnp.sum(kind(0.25, deterministic=False).apply({}, x, rngs={"dropout": key}) ** 2)

        return jax.jit(jax.value_and_grad(loss))

    ours, theirs = gradient(layers.Dropout), gradient(nn.Dropout)
    for found, expected in zip(ours(x), theirs(x), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert "optimization_barrier" in ours.lower(x).as_text()
    assert "optimization_barrier" not in theirs.lower(x).as_text()


def test_dropout_drops_the_share_it_is_asked_for():
    kept = layers.kept_units(jax.random.key(0), 0.1, (100, 1000))
    assert abs(float(jnp.mean(kept)) - 0.9) < 0.005  # five standard deviations
    x = jnp.ones((2, 3))
    assert layers.Dropout(0.5, deterministic=True).apply({}, x) is x
    assert layers.Dropout(0.0, deterministic=False).apply({}, x) is x


def test_a_small_image_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"^net takes images of 64x64 pixels or more, got 32x80: resize$"):
        layers.check_image_size("net", (32, 80, 3), 64, "resize")
