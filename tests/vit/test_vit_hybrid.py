"""The ResNet below a hybrid's Transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vit_networks import images, logits, module, parameters, shapes

from vit import hybrid


@pytest.mark.parametrize(("mean", "deviation"), [(3, 5), (0, 0.0147)])  # the second: Lecun's, 3x3 kernels on 512 maps
def test_kernels_are_standardised(mean, deviation):
    kernel = np.random.default_rng(0).normal(mean, deviation, size=(3, 3, 64, 4))
    standard = hybrid.standardize(jnp.asarray(kernel, jnp.float32))
    np.testing.assert_allclose(standard.mean((0, 1, 2)), 0, atol=1e-6)
    deviations = kernel.std((0, 1, 2))  # 1e-5 is added to them, not to the variances
    np.testing.assert_allclose(standard.std((0, 1, 2)), deviations / (deviations + 1e-5), rtol=1e-5)


@pytest.mark.parametrize(("size", "strides", "padding"), [(7, 2, (2, 3)), (3, 2, (0, 1)), (3, 1, (1, 1))])
def test_convolutions_are_padded_as_the_published_weights_expect(size, strides, padding):
    convolution = hybrid.StandardizedConv(4, size, strides, padding)
    x = images(1, (8, 12, 3))
    params = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(size, size, 3, 4)), jnp.float32)}
    kernel = hybrid.standardize(params["kernel"])
    expected = jax.lax.conv_general_dilated(
        x, kernel, (strides, strides), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(convolution.apply({"params": params}, x), expected, rtol=1e-5, atol=1e-5)


def test_a_block_starts_as_its_shortcut():
    x = images(2, (4, 4, 128))
    block = hybrid.Bottleneck(width=32)
    outputs, variables = jax.jit(block.init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(variables["params"]["gn3"]["scale"], 0)
    assert "conv_proj" not in variables["params"]
    np.testing.assert_allclose(outputs, jax.nn.relu(x), rtol=1e-6)


def test_layers_have_the_published_names_and_shapes():
    found = shapes(module(variant="r26_s32", image=(32, 32, 3), depth=1), (32, 32, 3))
    assert found["conv_root"]["kernel"].shape == (7, 7, 3, 64)
    assert found["gn_root"]["scale"].shape == (64,)
    assert set(found["block1"]) == {"unit1", "unit2"}
    convolutions, norms = {"conv1", "conv2", "conv3"}, {"gn1", "gn2", "gn3"}
    assert set(found["block2"]["unit1"]) == convolutions | norms | {"conv_proj", "gn_proj"}
    assert set(found["block2"]["unit2"]) == convolutions | norms
    assert found["block4"]["unit1"]["conv_proj"]["kernel"].shape == (1, 1, 1024, 2048)
    assert found["embedding"]["kernel"].shape == (1, 1, 2048, 16)


@pytest.mark.slow
def test_a_hybrid_does_not_see_the_scale_of_its_kernels():
    image = (32, 64, 3)
    network = module(variant="r_ti16", image=image)
    params = parameters(network, image)
    changed = {**params, "conv_root": {"kernel": 2 * params["conv_root"]["kernel"] + 3}}
    ours = logits(network, params, images(2, image))
    assert np.ptp(ours) > 0.1
    np.testing.assert_allclose(logits(network, changed, images(2, image)), ours, rtol=1e-3, atol=1e-3)
