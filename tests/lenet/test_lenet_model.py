"""The whole networks: their receptive fields, the options that they refuse, and that they learn."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import models
from common.errors import UserError
from configs import mlp_mnist
from lenet import bitmaps, model
from tests import networks
from tests.slow import rest_slow

SIZES = {"lenet5": 32, "lenet5_modern": 32, "lenet1989": 16, "lenet1": 28}
CROSS_ENTROPY = {"loss": {"name": "cross_entropy"}}


def _info(size, num_classes=10, channels=1):
    names = tuple(map(str, range(num_classes)))
    return networks.facts(num_classes, (size, size, channels), names)


def _classifier(variant, num_classes=10, **changes):
    return models.make_classifier(models.section("lenet", variant, **changes), _info(SIZES[variant], num_classes))


def _variables(classifier):
    return _initial_variables(classifier.module, classifier.input_shape)


@functools.cache
def _initial_variables(module, shape):
    key = jax.random.key(0, impl="rbg")  # compiles several times faster than the default
    return jax.jit(module.init)(key, jnp.zeros((1, *shape)))


@functools.partial(jax.jit, static_argnums=0)
def _layer_outputs(module, variables, images):
    _, state = module.apply(variables, images, capture_intermediates=True, mutable="intermediates")
    return {name: value["__call__"][0] for name, value in state["intermediates"].items() if name != "__call__"}


@pytest.mark.parametrize("variant", model.VARIANTS)
def test_every_hyper_parameter_of_a_variant_is_a_field_of_its_network(variant):
    fields = set(model.NETWORKS[variant].__dataclass_fields__)
    assert set(model.VARIANTS[variant]) - {"loss"} == fields - {"num_classes", "second_order", "parent", "name"}


@pytest.mark.parametrize(
    ("variant", "own", "loss"),
    [
        ("lenet5", {"pooling", "c3"}, {"name": "map", "rubbish": 10.0}),
        ("lenet5_modern", {"pooling", "c3"}, {"name": "cross_entropy", "rubbish": 10.0}),
        ("lenet1989", {"h2", "biases", "padding_value"}, {"name": "mse"}),
        ("lenet1", {"pooling", "h3"}, {"name": "mse"}),
        ("mlp", {"hidden", "image_size"}, {"name": "mse"}),
    ],
)
def test_a_section_has_the_networks_options_and_those_of_the_loss_in_one_of_their_own(variant, own, loss):
    section = models.section("lenet", variant).to_dict()
    assert section.pop("loss") == loss
    shared = {"family", "variant", "activation", "output", "weight_init", "bias_init", "dtype"}
    assert section.keys() == shared | own


@pytest.mark.parametrize(
    ("variant", "sizes"),
    [("lenet5", {"C1": 5, "S2": 6, "C3": 14, "S4": 16, "C5": 32}), ("lenet1989", {"H1": 5, "H2": 13})],
)
def test_receptive_fields(variant, sizes):
    classifier = _classifier(variant)
    variables = _variables(classifier)
    images = jax.random.normal(jax.random.key(1), (1, *classifier.input_shape))

    def centre_unit(images, layer):
        maps = _layer_outputs(classifier.module, variables, images)[layer]
        return maps[0, maps.shape[1] // 2, maps.shape[2] // 2].sum()

    gradients = jax.jit(lambda images: {layer: jax.grad(centre_unit)(images, layer) for layer in sizes})(images)
    for layer, size in sizes.items():
        seen = np.asarray(gradients[layer])[0, ..., 0] != 0
        assert np.ptp(np.flatnonzero(seen.any(1))) + 1 == size
        assert np.ptp(np.flatnonzero(seen.any(0))) + 1 == size


def test_moving_the_image_by_four_pixels_moves_s4_by_one():
    classifier = _classifier("lenet5")
    variables = _variables(classifier)
    blob = jax.random.normal(jax.random.key(1), (10, 10))
    images = jnp.zeros((2, 32, 32, 1)).at[0, 9:19, 9:19, 0].set(blob).at[1, 13:23, 9:19, 0].set(blob)
    maps = np.asarray(_layer_outputs(classifier.module, variables, images)["S4"])
    np.testing.assert_allclose(maps[1, 1:], maps[0, :-1], atol=1e-6)
    assert np.abs(maps[1, 1:] - maps[0, 1:]).max() > 1e-3


def test_the_class_is_the_digit_whose_bitmap_f6_draws():
    classifier = _classifier("lenet5")
    variables = _variables(classifier)
    images = jax.random.normal(jax.random.key(1), (16, 32, 32, 1))
    layers = _layer_outputs(classifier.module, variables, images)
    nearest = np.linalg.norm(np.asarray(layers["F6"])[:, None] - bitmaps.CENTRES, axis=-1).argmin(-1)
    np.testing.assert_array_equal(classifier.logits(layers["Output"]).argmax(-1), nearest)


@pytest.mark.parametrize("variant", rest_slow(SIZES))
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(variant):
    exact, rounded = _classifier(variant), _classifier(variant, dtype="bfloat16")
    variables = _variables(rounded)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = jax.random.normal(jax.random.key(1), (2, *rounded.input_shape))
    layers = jax.eval_shape(functools.partial(_layer_outputs, rounded.module), variables, images)
    inner = [maps for name, maps in layers.items() if name != "Output"]
    assert {maps.dtype for maps in inner} == {jnp.dtype("bfloat16")}
    outputs = jax.jit(rounded.module.apply)(variables, images)
    assert outputs.dtype == jnp.float32
    np.testing.assert_allclose(outputs, jax.jit(exact.module.apply)(variables, images), rtol=0.05, atol=0.1)
    gradients = jax.eval_shape(
        jax.grad(lambda v: rounded.loss(rounded.module.apply(v, images), jnp.array([1, 2])).mean()), variables
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


# Slow: a campaign over combinations of fields, each of which another test computes.
COMBINATIONS = (
    *(("lenet5", {"loss": {"name": "mse"}}), ("lenet5", {"c3": "full", "pooling": "average"})),
    *(("lenet5", {"output": "softmax", **CROSS_ENTROPY}), ("lenet5", {"activation": "relu"})),
    *(("lenet5_modern", {"pooling": "trainable", "c3": "table"}), ("lenet1", {"h3": "full"})),
    ("lenet1989", {"h2": "full", "biases": "map", "padding_value": 0.0}),
    ("lenet1989", {"output": "softmax", **CROSS_ENTROPY}),
)


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("lenet5", {}),
        *rest_slow((("lenet1989", {}), ("lenet5_modern", {}), ("lenet1", {}), *COMBINATIONS), quick=0),
    ],
)
def test_a_gradient_step_lowers_the_loss(variant, changes):
    classifier = _classifier(variant, **changes)
    params = _variables(classifier)["params"]
    images = jax.random.normal(jax.random.key(1), (8, *classifier.input_shape))
    labels = jnp.arange(8)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        return classifier.loss(classifier.module.apply({"params": params}, images, train=True), labels).mean()

    before, gradient = loss(params)
    after, _ = loss(jax.tree.map(lambda p, g: p - 1e-4 * g, params, gradient))
    assert after < before
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    curvature = jax.jit(classifier.curvature)(params, images, labels)
    assert jax.tree.structure(curvature) == jax.tree.structure(params)
    assert all(np.all(leaf >= 0) and np.any(leaf > 0) for leaf in jax.tree.leaves(curvature))


def test_softmax_takes_any_number_of_classes_and_channels():
    config = models.section("lenet", "lenet5_modern")
    classifier = models.make_classifier(config, _info(32, num_classes=37, channels=3))
    logits = jax.eval_shape(
        lambda variables, images: classifier.logits(classifier.module.apply(variables, images)),
        networks.shapes(classifier.module, (32, 32, 3)),
        jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32),
    )
    assert logits.shape == (2, 37)


@pytest.mark.parametrize(("variant", "soft"), [("lenet5_modern", True), ("lenet5", False), ("lenet1", False)])
def test_only_cross_entropy_takes_distributions_of_labels(variant, soft):
    assert _classifier(variant).soft_labels is soft


@pytest.mark.parametrize(
    ("variant", "changes", "info", "message"),
    [
        (
            "lenet5",
            {},
            _info(32, num_classes=26),
            "26 classes: use config.model.output=softmax and config.model.loss.name=cross_",
        ),
        ("lenet5", {}, _info(28), "32x32 pixels, got 28x28"),
        ("lenet1989", {}, _info(32), "16x16 pixels, got 32x32"),
        ("lenet5", CROSS_ENTROPY, _info(32), "use config.model.loss.name=map or mse"),
        (
            "lenet5",
            {"output": "softmax"},
            _info(32),
            "loss.name=map does not go with output=softmax: use config.model.loss.name=cross_entropy",
        ),
        ("lenet1989", {"loss": {"name": "map"}}, _info(16), "use config.model.loss.name=mse"),
        ("lenet1989", {"output": "rbf"}, _info(16), "unknown config.model.output 'rbf'"),
        ("lenet5", {"pooling": "maximum"}, _info(32), "did you mean 'max'"),
        ("lenet5", {"c3": "tabel"}, _info(32), "did you mean 'table'"),
        ("lenet5", {"loss": {"name": "msee"}}, _info(32), "config.model.loss.name 'msee'; did you mean 'mse'"),
        ("lenet5", {"dtype": "float16"}, _info(32), "did you mean 'bfloat16'"),
        *(("lenet5", {"loss": {"rubbish": rubbish}}, _info(32), "positive") for rubbish in (0.0, math.nan)),
        ("lenet5", {"loss": {"name": "mse", "rubbish": 5.0}}, _info(32), "rubbish has no effect without loss.name=map"),
    ],
)
def test_contradictory_choices_are_refused_in_one_line(variant, changes, info, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as error:
        models.make_classifier(models.section("lenet", variant, **changes), info)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("loss", [{"name": "msee"}, {"name": "cross_entropy"}, {"rubbish": 0.0}])
def test_wrong_options_of_the_loss_are_refused_before_the_dataset_is_known(loss):
    with pytest.raises(UserError, match=r"loss\."):
        models.check(models.section("lenet", "lenet5", loss=loss))


def test_an_argument_of_hidden_layers_is_read_or_refused():
    assert mlp_mnist.get_config("300-100").model.hidden == (300, 100)
    for argument in ("abc", "300x100", "300-", ""):
        with pytest.raises(UserError, match=f"argument is '{argument}'; expected the units of each hidden layer"):
            mlp_mnist.get_config(argument)
