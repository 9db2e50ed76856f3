"""The layers as functions: against lax, against NumPy in float64, and which inputs each may read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet import layers, model
from tests import networks

KEY = jax.random.key(0, impl="rbg")  # compiles several times faster than the default


def _random(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def _lax_convolve(images, kernel, strides):
    return jax.lax.conv_general_dilated(
        images, kernel, (strides, strides), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(12, 9), (5, 5), (11, 20)])
def test_convolve_and_its_gradients_are_those_of_lax(height, width, strides):
    images, kernel = _random(0, 3, height, width, 2), _random(1, 5, 5, 2, 4)

    @functools.partial(jax.jit, static_argnums=0)
    def outputs_and_gradients(convolve):
        outputs, back_propagate = jax.vjp(lambda x, w: convolve(x, w, strides), images, kernel)
        return outputs, *back_propagate(jnp.cos(outputs))

    for found, expected in zip(*map(outputs_and_gradients, (layers.convolve, _lax_convolve)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_subsampling_against_float64():
    images = np.asarray(_random(0, 2, 6, 4, 3), np.float64)
    layer = layers.Subsampling()
    params = {"coefficient": jnp.array([0.3, -0.2, 0.5]), "bias": jnp.array([0.1, 0.0, -0.4])}
    expected = np.empty((2, 3, 2, 3))
    for n, i, j, c in np.ndindex(expected.shape):
        total = images[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c].sum()
        expected[n, i, j, c] = 1.7159 * np.tanh(2 / 3 * (float(params["coefficient"][c]) * total + params["bias"][c]))
    found = jax.jit(layer.apply)({"params": params}, jnp.asarray(images, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("pooling", "reduce"), [("average", np.mean), ("max", np.max)])
def test_pooling_without_parameters(pooling, reduce):
    images = _random(0, 2, 6, 4, 3)
    outputs = layers.Subsampling(pooling=pooling).apply({}, images)
    np.testing.assert_allclose(outputs, reduce(np.asarray(images).reshape(2, 3, 2, 2, 2, 3), axis=(2, 4)), rtol=1e-6)


def test_expanded_kernel_holds_each_link_once_and_zeros_elsewhere():
    kernel = _random(0, 5, 5, 60)
    full = np.asarray(layers.expand_links(kernel, model.C3_TABLE, channels=6))
    link = 0
    for reader, maps in enumerate(model.C3_TABLE):
        for read in range(6):
            if read not in maps:
                assert not full[:, :, read, reader].any()
        for read in maps:
            np.testing.assert_array_equal(full[:, :, read, reader], kernel[:, :, link])
            link += 1
    assert link == 60


@pytest.mark.parametrize("table", [model.C3_TABLE, None])
def test_c3_map_ignores_the_maps_it_is_not_connected_to(table):
    layer = layers.Convolution(16, table=table)
    images = _random(0, 1, 14, 14, 6)
    variables = networks.drawn(jax.eval_shape(layer.init, KEY, images))
    # Image 0 as it is, then with each of its maps changed.
    batch = np.repeat(images, 7, axis=0) + np.concatenate([np.zeros((1, 6)), np.eye(6)])[:, None, None]
    before, *others = np.asarray(jax.jit(layer.apply)(variables, jnp.float32(batch)))
    for read, after in enumerate(others):
        changed = np.flatnonzero(np.any(before != after, axis=(0, 1)))
        assert changed.tolist() == [
            reader for reader, maps in enumerate(model.C3_TABLE) if table is None or read in maps
        ]


def test_initial_weights_fill_the_range_that_each_units_fan_in_allows():
    layer = layers.Convolution(16, table=model.C3_TABLE)
    variables = jax.jit(layer.init)(KEY, jnp.zeros((1, 14, 14, 6)))
    _, reader = layers.links(model.C3_TABLE)
    for feature, maps in enumerate(model.C3_TABLE):
        bound = 2.4 / (25 * len(maps))
        weights = np.asarray(variables["params"]["kernel"])[..., reader == feature]
        assert np.abs(weights).max() <= bound
        assert np.abs(weights).max() > 0.9 * bound
        assert np.abs(variables["params"]["bias"][feature]) <= bound


@pytest.mark.parametrize(("weight_init", "bound"), [("uniform", 2.4 / 400), ("uniform_sqrt", 2.4 / 20)])
def test_initial_range_divides_by_the_fan_in_or_by_its_root(weight_init, bound):
    layer = layers.Dense(120, weight_init=weight_init, bias_init="zeros")
    params = jax.jit(layer.init)(KEY, jnp.zeros((1, 400)))["params"]
    assert 0.99 * bound < np.abs(params["kernel"]).max() <= bound
    assert not np.any(params["bias"])


def test_subsampling_starts_within_its_fan_in_of_four():
    params = jax.jit(layers.Subsampling().init)(KEY, jnp.zeros((1, 2, 2, 400)))["params"]
    for name in ("coefficient", "bias"):
        assert 0.9 * 0.6 < np.abs(params[name]).max() <= 0.6


def test_padding_shows_the_network_a_white_page():
    layer = layers.Convolution(1, strides=2, padding=(2, 1), padding_value=-1.0, activation="identity")
    params = {"kernel": jnp.ones((5, 5, 1, 1)), "bias": jnp.zeros(1)}
    apply = jax.jit(layer.apply)
    outputs = np.asarray(apply({"params": params}, jnp.full((1, 16, 16, 1), -1.0)))
    assert outputs.shape == (1, 8, 8, 1)
    np.testing.assert_array_equal(outputs, -25)  # a blank image continues beyond its border
    corner = apply({"params": params}, jnp.zeros((1, 16, 16, 1)))[0, ..., 0]
    assert corner[0, 0] == -16  # two rows and two columns of 5x5 lie outside at the start,
    assert corner[-1, -1] == -9  # one of each at the end


def test_biases_of_each_unit_are_not_shared():
    layer = layers.Convolution(12, strides=2, padding=(2, 1), bias_per_unit=True, activation="identity")
    images = jnp.zeros((1, 16, 16, 1))
    outputs, variables = jax.jit(layer.init_with_output)(KEY, images)
    np.testing.assert_array_equal(outputs[0], variables["params"]["bias"])
    assert variables["params"]["bias"].shape == (8, 8, 12)
