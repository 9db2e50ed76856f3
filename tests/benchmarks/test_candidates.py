"""Tests that each candidate formulation computes what ours does."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from benchmarks import networks
from benchmarks.racing import candidates
from common.nn import layers
from common.nn.batch_norm import BatchNorm
from resnet import layers as resnet_layers
from resnet import model as resnet_model


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [(32, 7, 2, 3), (35, 11, 4, 0), (33, 7, 2, 3), (32, 3, 2, 1), (31, 5, 3, 2)],  # ResNet's, AlexNet's, others
)
def test_a_convolution_of_blocks_is_the_strided_convolution(side, kernel, stride, padding):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, side, side - 2, 3)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(kernel, kernel, 3, 5)), jnp.float32)
    plain = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    options = (stride, stride), ((padding, padding), (padding, padding))
    expected = plain(images, weights, *options)
    found = candidates.space_to_depth_convolution(images, weights, *options, plain)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # only the benchmark of formulations uses it
def test_the_rectified_gradient_is_that_of_the_two_layers():
    rng = np.random.default_rng(1)
    x, weights = (jnp.asarray(rng.normal(size=(8, 4, 4, 3)), jnp.float32) for _ in range(2))
    params = {"scale": jnp.asarray([1.0, -2.0, 0.5]), "bias": jnp.asarray([0.1, 0.2, -0.3])}
    statistics = {"mean": jnp.zeros(3), "var": jnp.ones(3)}

    def ours(params, x):
        y, _ = BatchNorm().apply({"params": params, "batch_stats": statistics}, x, True, mutable="batch_stats")
        return jnp.sum(weights * nn.relu(y) ** 2)

    def candidate(params, x):
        y, _, _ = candidates.rectified(x, params["scale"], params["bias"], statistics["mean"], 1e-5)
        return jnp.sum(weights * y**2)

    expected, found = (jax.value_and_grad(loss, (0, 1))(params, x) for loss in (ours, candidate))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5), found, expected)


@pytest.mark.slow  # only the benchmark of formulations runs these
def test_networks_with_candidates_compute_the_same(monkeypatch):
    # The first convolution over blocks, and the rectified gradient, in a ResNet in training.
    monkeypatch.setattr(resnet_layers, "fastest", resnet_layers.fastest)
    monkeypatch.setitem(resnet_model.BLOCKS, "bottleneck", resnet_model.BLOCKS["bottleneck"])
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    changes = {"stage_sizes": (1, 1), "width": 4}

    def gradients():
        module = networks.build("resnet", "resnet50_modern", 16, **changes)[1].module
        variables = module.init(jax.random.key(1), images)

        def loss(params):
            logits, state = module.apply({**variables, "params": params}, images, train=True, mutable="batch_stats")
            return jnp.sum(jnp.sin(logits)), state

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    expected = gradients()
    for replace in (candidates.space_to_depth, candidates.rectified_gradient):
        replace()
        found = gradients()
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4), found, expected)


def test_dropout_that_computes_its_masks_again_has_the_same_masks(monkeypatch):
    key, shape = jax.random.key(5), (3, 40)
    expected = layers.kept_units(key, 0.3, shape)
    monkeypatch.setattr(layers, "kept_units", layers.kept_units)
    candidates.masks_again()
    np.testing.assert_array_equal(layers.kept_units(key, 0.3, shape), expected)


def test_every_candidate_can_be_named():
    # A candidate is a public function of the module without parameters.
    found = inspect.getmembers(candidates, inspect.isfunction)
    written = {
        name for name, one in found if one.__module__ == candidates.__name__ and not inspect.signature(one).parameters
    }
    assert {name for name in written if not name.startswith("_")} == set(candidates.CANDIDATES)
