"""ResNet's forms (scanned, rematerialised, bfloat16), shortcuts, and options that are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from common import models
from common.data.dataset_info import Info
from common.errors import UserError
from common.nn.losses import cross_entropy
from resnet import weights
from resnet.model import ResNet, make_classifier, network, stacked
from tests import networks
from tests.slow import rest_slow

SMALL = {"num_classes": 4, "stage_sizes": (1, 3), "block": "basic", "width": 4, "stem": "cifar", "shortcut": "A"}
ONE_STAGE = {**SMALL, "stage_sizes": (3,)}
KEY = jax.random.key(0, impl="rbg")  # compiles several times faster than the default
IMAGES = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
LABELS = jnp.arange(6) % 4


def info(side=32, num_classes=10):
    names = tuple(map(str, range(num_classes)))
    return Info("test", num_classes, names, (side, side, 3), 100, 100)


def initial(module, images=IMAGES):
    return jax.jit(module.init)(KEY, images)


def captured(module):
    """Every layer's output for the images with the initial parameters, by name."""
    return module.init_with_output(KEY, IMAGES, mutable=True, capture_intermediates=True)[1]["intermediates"]


def loss_and_gradient(module, variables):
    def mean_loss(params):
        variables_ = {**variables, "params": params}
        logits, state = module.apply(variables_, IMAGES, train=True, mutable="batch_stats")
        return jnp.mean(cross_entropy(logits, LABELS)), state

    (loss, state), grads = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))(variables["params"])
    return loss, {**state, "params": grads}


@pytest.fixture(scope="module")
def unrolled():
    """A network of one stage without scanning, its variables, loss and gradient."""
    module = ResNet(**ONE_STAGE, scan="off")
    variables = networks.drawn(networks.shapes(module, IMAGES.shape[1:]), scale=0.3)
    return module, variables, *loss_and_gradient(module, variables)


@pytest.mark.parametrize(
    "change", rest_slow([{"scan": "on", "remat": True}, {"scan": "on"}, {"scan": "off", "remat": True}])
)
def test_scanned_and_rematerialised_networks_compute_the_same(change, unrolled):
    plain, variables, expected_loss, expected = unrolled
    other = ResNet(**ONE_STAGE, **change)
    other_variables = weights.stack(variables, other)
    loss, found = loss_and_gradient(other, other_variables)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), weights.unstack(found), expected)
    logits = jax.jit(other.apply)(other_variables, IMAGES)
    np.testing.assert_allclose(logits, jax.jit(plain.apply)(variables, IMAGES), rtol=1e-4, atol=1e-5)


def test_scanned_blocks_start_apart_and_in_the_tree_that_stack_makes():
    module = ResNet(**SMALL, scan="on")
    variables = initial(module)
    kernels = variables["params"]["conv3_x"]["conv1"]["kernel"]
    assert kernels.shape == (2, 3, 3, 8, 8)
    assert not np.allclose(kernels[0], kernels[1])
    again = weights.stack(weights.unstack(variables), module)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_auto_scans_deep_stages_only_and_alike_on_every_backend():
    assert [stacked("auto", size) for size in (3, 8, 9, 36)] == [False, False, True, True]
    assert [stacked("on", size) for size in (1, 2, 3)] == [False, False, True]
    params = jax.eval_shape(ResNet(**{**SMALL, "stage_sizes": (9, 2)}).init, jax.random.key(0), IMAGES)["params"]
    assert set(params) == {"conv1", "bn1", "conv2_1", "conv2_x", "conv3_1", "conv3_2", "fc"}


@pytest.mark.parametrize("block", rest_slow(["basic", "bottleneck"]))
def test_zero_gamma_makes_identity_blocks_rectifiers(block):
    module = ResNet(**{**SMALL, "block": block, "shortcut": "B", "zero_gamma": True}, scan="off")
    layers = jax.jit(lambda: captured(module))()
    outputs = [layers[f"conv3_{i}"]["__call__"][0] for i in (1, 2, 3)]
    for before, after in zip(outputs, outputs[1:], strict=False):
        np.testing.assert_array_equal(after, jax.nn.relu(before))
    assert np.any(outputs[0])


def test_the_shortcut_is_all_that_a_plain_net_lacks():
    residual, plain = ResNet(**SMALL), ResNet(**{**SMALL, "shortcut": "none"})
    variables = networks.drawn(networks.shapes(residual, IMAGES.shape[1:]), scale=0.5)
    assert jax.tree.structure(variables) == jax.tree.structure(networks.shapes(plain, IMAGES.shape[1:]))
    zeros = jax.tree.map(jnp.zeros_like, variables["params"])
    # With all later convolutions zero, a plain net loses its input and a residual net still passes it on.
    params = {**zeros, "conv1": variables["params"]["conv1"], "bn1": variables["params"]["bn1"]}
    params["fc"] = variables["params"]["fc"]
    logits = {m.shortcut: jax.jit(m.apply)({**variables, "params": params}, IMAGES) for m in (residual, plain)}
    assert np.ptp(logits["none"], axis=0).max() == 0
    assert np.ptp(logits["A"], axis=0).min() > 0


@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_the_bottleneck_strides_where_it_is_told(stride_in):
    module = ResNet(**{**SMALL, "block": "bottleneck", "stride_in": stride_in})
    block = jax.eval_shape(lambda: captured(module))["conv3_1"]
    sides = [block[f"conv{i}"]["__call__"][0].shape[1] for i in (1, 2, 3)]
    assert sides == ([4, 4, 4] if stride_in == "1x1" else [8, 4, 4])


def test_bfloat16_computes_near_float32_with_float32_parameters_and_logits():
    exact, half = ResNet(**SMALL), ResNet(**SMALL, dtype="bfloat16")
    logits, variables = jax.jit(half.init_with_output)(KEY, IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, jax.jit(exact.apply)(variables, IMAGES), rtol=0.1, atol=0.05)


def test_any_image_size_is_taken():
    module = ResNet(**{**SMALL, "stem": "imagenet"})
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    assert jax.eval_shape(module.apply, variables, jnp.zeros((2, 96, 70, 3))).shape == (2, 4)


@pytest.mark.parametrize(("variant", "suggested"), [("resnet18", "resnet20"), ("plain34", "plain32")])
def test_the_imagenet_stem_on_small_images_warns_and_names_the_cifar_variant(variant, suggested, caplog):
    logging.get_absl_logger().propagate = True
    make_classifier(models.section("resnet", variant), info(side=32))
    assert suggested in caplog.text
    assert "32 pixels" in caplog.text
    caplog.clear()
    make_classifier(models.section("resnet", variant), info(side=64))
    make_classifier(models.section("resnet", "resnet20"), info(side=32))
    assert caplog.text == ""


def test_the_classifier_takes_distributions_and_is_as_wide_as_the_data():
    classifier = make_classifier(models.section("resnet", "resnet20"), info(num_classes=7))
    assert (classifier.num_classes, classifier.module.num_classes, classifier.soft_labels) == (7, 7, True)
    soft = jnp.eye(7)[:2]
    logits = jnp.arange(14.0).reshape(2, 7)
    np.testing.assert_allclose(classifier.loss(logits, soft), classifier.loss(logits, jnp.arange(2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("resnet20", {"shortcut": "D"}, "config.model.shortcut"),
        ("resnet20", {"scan": "of"}, "did you mean 'off'"),
        ("resnet20", {"stage_sizes": (3, 0, 3)}, "stage_sizes"),
        ("resnet20", {"bn_momentum": 1.0}, "bn_momentum"),
        ("resnet20", {"batch_groups": -1}, "batch_groups"),
        ("plain20", {"zero_gamma": True}, "without shortcuts"),
        ("resnet50", {"stride_in": "2x2"}, "config.model.stride_in"),
        ("resnet50", {"stride_in": "3x3", "block": "basic"}, "stride_in has no effect without block='bottleneck'"),
        ("resnet50", {"shortcut_pad": "end"}, "shortcut_pad has no effect without shortcut='A'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(variant, changes, message):
    with pytest.raises(UserError, match=message):
        network(models.section("resnet", variant, **changes), 10)


def test_every_hyper_parameter_of_a_variant_is_a_field():
    fields = {field.name for field in dataclasses.fields(ResNet)}
    module = network(models.section("resnet", "resnet50_modern"), 10)
    assert set(models.section("resnet", "resnet50_modern")) - {"family", "variant"} <= fields
    assert (module.stride_in, module.zero_gamma) == ("3x3", True)
