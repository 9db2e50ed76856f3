"""The responses of layers that Figure 7 shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import models
from resnet import measures
from resnet.model import network


@pytest.mark.parametrize("variant", ["resnet20", "plain20"])
def test_a_response_is_the_deviation_after_normalisation_before_the_addition(variant):
    module = network(models.section("resnet", variant, width=2, stage_sizes=(1, 1)), 10)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = jax.jit(module.init)(jax.random.key(1, impl="rbg"), images)
    # A normalisation that multiplies by zero gives its biases, wherever it is.
    variables["params"]["conv3_1"]["bn2"] = {"scale": jnp.zeros(4), "bias": jnp.array([1.0, -1.0, 3.0, -3.0])}
    found = measures.responses(module, variables, images)
    assert set(found) == {"conv2_1/bn1", "conv2_1/bn2", "conv3_1/bn1", "conv3_1/bn2"}
    np.testing.assert_allclose(found["conv3_1/bn2"], 5**0.5, rtol=1e-6)
    assert found["conv2_1/bn1"] > 0
