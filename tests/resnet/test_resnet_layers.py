"""ResNet's shortcut without parameters (option A), and He's initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet.layers import convolution, zero_padded


def test_option_a_subsamples_and_pads_with_zeros():
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3)) + 10
    y = zero_padded(x, 8, 2)
    assert y.shape == (2, 3, 3, 8)
    np.testing.assert_array_equal(y[..., 2:5], x[:, ::2, ::2])
    np.testing.assert_array_equal(y[..., :2], 0)
    np.testing.assert_array_equal(y[..., 5:], 0)
    np.testing.assert_array_equal(zero_padded(x, 8, 2, "end")[..., 3:], 0)
    np.testing.assert_array_equal(zero_padded(x, 8, 2, "end")[..., :3], x[:, ::2, ::2])


@pytest.mark.parametrize(("fan", "units"), [("fan_in", 9 * 32), ("fan_out", 9 * 128)])
def test_initial_weights_are_he_normal(fan, units):
    layer = convolution(128, 3, init_fan=fan, dtype="float32")
    kernel = layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 32)))["params"]["kernel"]
    assert kernel.shape == (3, 3, 32, 128)
    np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, (2 / units) ** 0.5], rtol=0.02, atol=1e-3)
