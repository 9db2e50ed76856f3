"""AlexNet's facts: parameters, map sizes, multiply-adds, receptive fields, columns, normalisation, initialisation."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet import model, paper
from alexnet.cifar import spatial_response_norm
from common import models
from common.anatomy import layer_table
from common.errors import UserError
from common.nn.layers import local_response_norm
from common.nn.losses import cross_entropy
from tests import networks
from tests.pools import pool_as_a_row
from tests.slow import rest_slow

# A tenth of the widths; everything else is as in the paper.
NARROW = {"widths": (8, 24, 36, 36, 24), "fc_width": 32}
KEY = jax.random.key(0, impl="rbg")  # compiles several times faster than the default


def _module(variant, size=224, classes=1000, **changes):
    return networks.classifier("alexnet", variant, classes, (size, size, 3), **changes).module


def _rows(module, size):
    return {row.name: row for row in layer_table.rows(module, (size, size, 3))}


@functools.cache
def _whole():
    """The rows of the paper's network."""
    return _rows(_module("two_column"), 224)


@functools.partial(jax.jit, static_argnums=0)
def _outputs(module, variables, images):
    return module.apply(variables, images)


@pytest.fixture(scope="module")
def narrow():
    side = 64  # the smallest image: a tenth of the work of the paper's 224, and parameters of the same shapes
    module = _module("two_column", side, **NARROW)
    images = 100 * jax.random.normal(jax.random.key(1), (2, side, side, 3))
    return module, networks.drawn(networks.shapes(module, (side, side, 3))), images


@pytest.mark.parametrize(
    ("variant", "changes", "size", "parameters", "multiply_adds"),
    [
        ("two_column", {}, 224, 60_965_224, 724_406_816),
        ("two_column", {"columns": 1}, 224, 62_378_344, 1_135_256_096),
        ("one_column", {}, 224, 61_100_840, 714_188_480),
        # With the 384 kernels in conv4 that the 2014 paper's footnote prints.
        ("one_column", {"widths": (64, 192, 384, 384, 256)}, 224, 61_838_248, None),
        ("fig1_cifar10", {}, 32, 89_578, None),
        ("cifar10_18", {}, 24, 85_098, None),
        ("cifar10_13", {}, 24, 1_116_490, None),
        ("cifar10_11", {}, 24, 2_112_970, None),
    ],
)
def test_totals(variant, changes, size, parameters, multiply_adds):
    module = _module(variant, size, 1000 if size == 224 else 10, **changes)
    shapes = networks.shapes(module, (size, size, 3))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters
    if multiply_adds:
        assert layer_table.multiply_adds_per_image(module, shapes, (size, size, 3)) == multiply_adds


def test_every_layer_is_the_papers():
    rows = _whole()
    facts = paper.LAYERS["two_column"]
    assert [(name, rows[name].output_shape) for name in facts] == [(n, f["output_shape"]) for n, f in facts.items()]
    assert {n: rows[n].parameters for n in facts} == {n: f["parameters"] for n, f in facts.items()}
    assert {n: rows[n].multiply_adds for n in facts} == {n: f["multiply_adds"] for n, f in facts.items()}
    assert sum(fact["parameters"] for fact in facts.values()) == 60_965_224
    neurons = sum(np.prod(row.output_shape) for name, row in rows.items() if name in facts)
    assert neurons == 659_272  # "650,000 neurons"


def test_receptive_fields(monkeypatch):
    monkeypatch.setattr(model, "max_pool", pool_as_a_row)
    rows = _rows(_module("two_column"), 224)
    fields = [row.receptive_field for row in rows.values() if row.type in ("Conv", "Pool")]
    assert fields == [11, 19, 51, 67, 99, 131, 163, 195]  # conv1, pool1, conv2, pool2, conv3 to conv5, pool5


def test_the_columns_meet_in_conv3_only(narrow):
    module, variables, images = narrow
    module = module.clone(lrn=False)  # it mixes maps near the border between the columns

    @jax.jit
    def maps(variables):
        _, state = module.apply(variables, images, capture_intermediates=True, mutable="intermediates")
        return {name: values["__call__"][0] for name, values in state["intermediates"].items() if name != "__call__"}

    before = maps(variables)
    bias = variables["params"]["conv1"]["bias"].at[:4].add(50.0)
    after = maps({"params": {**variables["params"], "conv1": {**variables["params"]["conv1"], "bias": bias}}})
    np.testing.assert_array_equal(after["conv2"][..., 12:], before["conv2"][..., 12:])
    assert not np.allclose(after["conv2"][..., :12], before["conv2"][..., :12])
    assert not np.allclose(after["conv3"][..., 18:], before["conv3"][..., 18:])
    assert not np.allclose(after["conv3"][..., :18], before["conv3"][..., :18])


def test_normalisation_may_stay_within_a_column():
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 8)) * 100
    across = jax.jit(model.AlexNet(columns=2).normalize)(x)
    within = jax.jit(model.AlexNet(columns=2, lrn_per_column=True).normalize)(x)
    normalised = jax.jit(local_response_norm)
    np.testing.assert_array_equal(across, normalised(x))
    halves = [normalised(half) for half in jnp.split(x, 2, axis=-1)]
    np.testing.assert_array_equal(within, jnp.concatenate(halves, axis=-1))


def test_initialisation_is_the_papers():
    params = jax.jit(_module("two_column", fc_width=128).init)(KEY, jnp.zeros((1, 224, 224, 3)))["params"]
    for name, layer in params.items():
        assert float(jnp.std(layer["kernel"])) == pytest.approx(0.01, rel=0.02)
        assert float(jnp.mean(layer["kernel"])) == pytest.approx(0, abs=3e-4)
        expected = 1.0 if name in ("conv2", "conv4", "conv5", "fc6", "fc7") else 0.0
        np.testing.assert_array_equal(layer["bias"], expected)


@pytest.mark.slow
def test_hes_initialisation_starts_near_the_loss_of_chance():
    module = _module("small", 32, 10, widths=(16, 48, 64, 64, 48), fc_width=256, dropout=0.0)
    images = jax.random.normal(jax.random.key(1), (8, 32, 32, 3))
    logits, variables = jax.jit(module.init_with_output)(KEY, images)
    assert float(cross_entropy(logits, jnp.arange(8)).mean()) == pytest.approx(np.log(10), abs=0.5)
    deviation = float(jnp.std(variables["params"]["conv3"]["kernel"]))
    assert deviation == pytest.approx((2 / (9 * 48)) ** 0.5, rel=0.05)


def test_dropout_of_2012_halves_the_hidden_layers_in_use_and_scales_nothing_in_training():
    x = jnp.ones((4, 500))
    dropout = model.Dropout2012(0.5, deterministic=True)
    np.testing.assert_array_equal(dropout.apply({}, x), 0.5)
    dropout = model.Dropout2012(0.5, deterministic=False)
    trained = dropout.apply({}, x, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(trained)) == {0.0, 1.0}
    assert float(trained.mean()) == pytest.approx(0.5, abs=0.05)


def test_both_forms_of_dropout_agree_in_use_up_to_the_scale_of_the_next_layer(narrow):
    module, variables, images = narrow
    halved = _outputs(module.clone(dropout_form="2012"), variables, images)
    params = dict(variables["params"])
    for name in ("fc7", "fc8"):
        params[name] = {**params[name], "kernel": params[name]["kernel"] / 2}
    np.testing.assert_allclose(halved, _outputs(module, {"params": params}, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "tanh"},
        {"lrn": False},
        {"lrn_divide_by_size": True},
        {"lrn_per_column": True},
        {"overlapping_pooling": False},
    ],
)
def test_each_ablation_changes_the_outputs_and_no_parameter(narrow, changes):
    module, variables, images = narrow
    changed = module.clone(**changes)
    difference = jnp.abs(_outputs(changed, variables, images) - _outputs(module, variables, images)).max()
    assert float(difference) > 0


@pytest.mark.parametrize(
    ("changes", "rest"),
    [
        ({"lrn_per_column": True}, {"lrn": False}),
        ({"lrn_per_column": True}, {"columns": 1}),
        ({"lrn_divide_by_size": True}, {"lrn": False}),
        ({"dropout_place": "before"}, {"dropout": 0.0}),
        ({"dropout_form": "2012"}, {"dropout": 0.0}),
        ({"hidden_bias": 0.1}, {"weight_init": "uniform"}),
    ],
)
def test_a_field_without_effect_is_refused(changes, rest):
    models.check(models.section("alexnet", "two_column", **changes))
    models.check(models.section("alexnet", "two_column", **rest))
    with pytest.raises(UserError, match=f"config.model.{next(iter(changes))} has no effect without"):
        models.check(models.section("alexnet", "two_column", **changes, **rest))


def test_dropout_acts_in_training_only(narrow):
    module, variables, images = narrow
    rngs = {"dropout": KEY}
    train = jax.jit(lambda module: module.apply(variables, images, train=True, rngs=rngs), static_argnums=0)
    used = _outputs(module, variables, images)
    assert not np.allclose(used, train(module))
    undropped = train(module.clone(dropout=0.0))
    np.testing.assert_allclose(undropped, used, rtol=1e-5)


@pytest.mark.parametrize(("variant", "smallest"), [("two_column", 64), ("one_column", 63), ("small", 15)])
def test_smallest_image(variant, smallest):
    module = _module(variant, smallest)
    side = (smallest, smallest, 3)
    images = jax.ShapeDtypeStruct((1, *side), jnp.float32)
    assert jax.eval_shape(module.apply, networks.shapes(module, side), images).shape == (1, 1000)
    with pytest.raises(UserError, match=f"takes images of {smallest}x{smallest} pixels or more"):
        _module(variant, smallest - 1)


@pytest.mark.parametrize(("side", "advised"), [(14, False), (15, True)])
def test_the_small_variant_is_advised_only_where_it_takes_the_images(side, advised):
    with pytest.raises(UserError) as error:
        _module("two_column", side)
    assert ("use variant 'small'" in str(error.value)) is advised


@pytest.mark.parametrize("variant", rest_slow(["cifar10_18", "fig1_cifar10", "cifar10_13", "cifar10_11"]))
def test_cifar_networks_give_finite_logits_in_bfloat16_too(variant):
    module = _module(variant, 24, 10, dtype="bfloat16")
    images = 50 * jax.random.normal(jax.random.key(0), (2, 24, 24, 3))
    logits, _ = jax.jit(module.init_with_output)(KEY, images)
    assert logits.shape == (2, 10)
    assert logits.dtype == jnp.float32
    assert bool(jnp.isfinite(logits).all())


def test_spatial_normalisation_reads_one_map():
    x = jnp.zeros((1, 5, 5, 2)).at[0, :, :, 0].set(30.0)
    normalized = spatial_response_norm(x)
    np.testing.assert_allclose(normalized[0, 2, 2, 0], 30 * (1 + 5e-5 * 900) ** -0.75, rtol=1e-6)
    np.testing.assert_allclose(normalized[0, 0, 0, 0], 30 * (1 + 5e-5 * 900 * 4 / 9) ** -0.75, rtol=1e-6)
    np.testing.assert_array_equal(normalized[..., 1], 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "relo"}, "unknown config.model.activation 'relo'; did you mean 'relu'"),
        ({"weight_init": "gausian"}, "did you mean 'gaussian'"),
        ({"widths": (95, 256, 384, 384, 256)}, "do not split into columns=2"),
        ({"widths": (96, 256)}, r"config.model.widths is \(96, 256\); expected 5 numbers"),
        ({"stem": (11.5, 4)}, r"config.model.stem is \(11.5, 4\); expected a tuple of whole numbers"),
        ({"stem": 11}, "config.model.stem is 11; expected a tuple of whole numbers"),
        ({"columns": 0}, "config.model.columns is 0; expected at least 1"),
        ({"dropout": 1.0}, "config.model.dropout is 1.0; expected at least 0 and less than 1"),
    ],
)
def test_wrong_fields_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        _module("two_column", **changes)


@pytest.mark.parametrize("variant", ["two_column", "fig1_cifar10"])
def test_a_config_read_back_makes_the_same_network(variant):
    section = models.section("alexnet", variant)
    read_back = ConfigDict(json.loads(section.to_json()))
    made, again = model.network(section, 10), model.network(read_back, 10)
    assert made == again
    assert hash(made) == hash(again)
