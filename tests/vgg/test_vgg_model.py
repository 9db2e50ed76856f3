"""VGG's facts: parameters, map sizes, multiply-adds, receptive fields; dense application; starting from a trained A."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.anatomy import layer_table
from common.errors import UserError
from tests import networks
from tests.pools import pool_as_a_row
from tests.slow import rest_slow
from vgg import model, paper, weights

KEY = jax.random.key(0, impl="rbg")  # compiles several times faster than the default
NARROW = {"width": 4, "fc_width": 16}


def _module(variant, size=224, classes=1000, **changes):
    return networks.classifier("vgg", variant, classes, (size, size, 3), **changes).module


def _rows(module, size=224):
    return {row.name: row for row in layer_table.rows(module, (size, size, 3))}


@functools.cache
def _whole(variant):
    """The rows of the paper's network."""
    return _rows(_module(variant))


def _variables(module, size):
    """Random values with which every layer matters, for any network, without compiling its initialisation."""
    shapes = networks.shapes(module, (size, size, 3))
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.normal(0.1, 0.3, leaf.shape), jnp.float32)  # noqa: E731
    variables = jax.tree.map(draw, shapes)
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(jnp.abs, variables["batch_stats"])
    return variables


@pytest.mark.parametrize(
    ("variant", "parameters", "normalised", "multiply_adds", "convolutions", "activations"),
    rest_slow(
        [
            ("vgg11", 132_863_336, 132_868_840, 7_609_090_048, 8, 7_426_048),
            ("vgg19", 143_667_240, 143_678_248, 19_632_062_464, 16, 14_852_096),
            ("vgg16_c", 133_638_952, 133_647_400, 11_770_888_192, 13, None),
            ("vgg11_lrn", 132_863_336, 132_868_840, 7_609_090_048, 8, 7_426_048),
            ("vgg13", 133_047_848, 133_053_736, 11_308_466_176, 10, 12_242_944),
            ("vgg16", 138_357_544, 138_365_992, 15_470_264_320, 13, 13_547_520),
        ],
        quick=3,
    ),
)
def test_every_layer_and_the_totals(variant, parameters, normalised, multiply_adds, convolutions, activations):
    rows = _whole(variant)
    assert rows[""].parameters == parameters
    assert rows[""].multiply_adds == multiply_adds
    assert f"{round(parameters / 1e6)}M" == paper.TOTALS[variant]["parameters"]
    facts = paper.LAYERS[variant]
    assert {name: rows[name].output_shape for name in facts} == {n: f["output_shape"] for n, f in facts.items()}
    assert {name: rows[name].parameters for name in facts} == {n: f["parameters"] for n, f in facts.items()}
    maps = [math.prod(row.output_shape) for name, row in rows.items() if name.startswith("conv")]
    assert len(maps) == convolutions
    assert activations in (None, sum(maps))
    shapes = networks.shapes(_module(f"{variant}_bn"), (224, 224, 3))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == normalised


def test_the_shallow_net():
    rows = _rows(_module("vgg_shallow_5x5"))
    assert rows[""].parameters == 134_503_528
    # A 5x5 layer sees what two of 3x3 do.
    assert rows["conv1_1"].receptive_field == _whole("vgg19")["conv1_2"].receptive_field == 5


def test_receptive_fields_of_d(monkeypatch):
    monkeypatch.setattr(model, "max_pool", pool_as_a_row)
    rows = _rows(_module("vgg16", 480, **NARROW), 480).values()
    fields = [row.receptive_field for row in rows if row.type == "Conv"]
    assert fields == [3, 5, 10, 14, 24, 32, 40, 60, 76, 92, 132, 164, 196]
    assert [row.receptive_field for row in rows if row.type == "Pool"] == [6, 16, 44, 100, 212]


@pytest.mark.parametrize(
    ("variant", "field"), rest_slow([("vgg16_c", 156), ("vgg11", 150), ("vgg13", 156), ("vgg19", 268)])
)
def test_receptive_fields_of_pool5(monkeypatch, variant, field):
    monkeypatch.setattr(model, "max_pool", pool_as_a_row)
    rows = _rows(_module(variant, 480, **NARROW), 480)
    assert rows["Pool_4"].receptive_field == field


def test_a_stack_of_three_has_the_field_of_7x7_and_fewer_weights():
    rows = _whole("vgg19")
    # In positions of stage 3's input, which see 16 pixels each and are 4 pixels apart.
    assert (rows["conv3_3"].receptive_field - 16) // 4 + 1 == 7
    assert 3 * (rows["conv3_3"].parameters - 256) == 27 * 256**2


@pytest.mark.parametrize(("variant", "batch_norm"), [("vgg11", False), ("vgg11_bn", True)])
def test_dense_application_to_the_training_size_is_the_plain_network(variant, batch_norm):
    module = _module(variant, 64, 5, **NARROW)
    variables = _variables(module, 64)
    images = jax.random.normal(jax.random.key(1), (2, 64, 64, 3))
    dense = jax.jit(model.dense_logits, static_argnums=0)(module, variables, images)
    assert dense.shape == (2, 1, 1, 5)
    assert ("batch_stats" in variables) == batch_norm
    np.testing.assert_allclose(dense[:, 0, 0], jax.jit(module.apply)(variables, images), rtol=2e-5)


@pytest.mark.parametrize(("side", "scores"), [(224, 1), (255, 1), (256, 2), (384, 6), (512, 10)])
def test_dense_score_maps_have_a_32nd_of_the_side_less_6(side, scores):
    module = _module("vgg16")
    variables = networks.shapes(module, (224, 224, 3))
    images = jax.ShapeDtypeStruct((1, side, side + 32, 3), jnp.float32)
    shape = jax.eval_shape(lambda v, x: model.dense_logits(module, v, x), variables, images).shape
    assert shape == (1, scores, scores + 1, 1000)


def test_each_place_of_the_dense_map_is_the_plain_network_on_its_crop_but_for_padding():
    # With kernels that are zero but for their centres, padding reaches no position and the equality is exact.
    module = _module("vgg11", 64, 5, **NARROW)
    variables = _variables(module, 64)
    only_centres = jax.tree.map(
        lambda w: w * (jnp.arange(9).reshape(3, 3, 1, 1) == 4) if w.ndim == 4 else w, variables["params"]
    )
    images = jax.random.normal(jax.random.key(1), (1, 96, 128, 3))
    dense = jax.jit(model.dense_logits, static_argnums=0)(module, {"params": only_centres}, images)
    assert dense.shape == (1, 2, 3, 5)
    crop = images[:, 32:96, 64:128]
    np.testing.assert_allclose(
        dense[:, 1, 2], jax.jit(module.apply)({"params": only_centres}, crop), rtol=1e-4, atol=1e-5
    )


def test_dense_application_refuses_smaller_images_than_those_of_training():
    module = _module("vgg11", 64, 5, **NARROW)
    with pytest.raises(UserError, match="dense application takes images of 64x64 pixels or more, got 63x64"):
        model.dense_logits(module, _variables(module, 64), jnp.zeros((1, 63, 64, 3)))


def test_only_network_a_lrn_normalises_responses():
    images = jax.random.normal(jax.random.key(1), (1, 32, 32, 3)) * 100
    plain = _module("vgg11", 32, 5, **NARROW)
    variables = _variables(plain, 32)
    normalised = _module("vgg11_lrn", 32, 5, **NARROW)
    assert not np.allclose(jax.jit(plain.apply)(variables, images), jax.jit(normalised.apply)(variables, images))


@pytest.mark.slow
def test_paper_initialisation_of_a():
    module = _module("vgg11", 32, weight_init="gaussian", width=16, fc_width=64)
    params = jax.jit(module.init)(KEY, jnp.zeros((1, 32, 32, 3)))["params"]
    for layer in params.values():
        assert float(jnp.std(layer["kernel"])) == pytest.approx(0.01, rel=0.15)  # some are small here
        np.testing.assert_array_equal(layer["bias"], 0)
    kernels = np.concatenate([np.ravel(layer["kernel"]) for layer in params.values()])
    assert kernels.std() == pytest.approx(0.01, rel=0.01)


def test_he_initialisation_counts_outputs():
    module = _module("vgg11", 32, width=16, fc_width=64)

    @jax.jit  # compiles the initialisation of what it returns
    def deviations():
        params = module.init(KEY, jnp.zeros((1, 32, 32, 3)))["params"]
        return [jnp.std(params[name]["kernel"]) for name in ("conv4_1", "fc6")]

    convolution, connected = deviations()
    assert float(convolution) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)  # 64 -> 128 maps
    assert float(connected) == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("variant", rest_slow(["vgg13", "vgg16_c", "vgg16", "vgg19"]))
def test_a_deeper_net_starts_from_a_trained_a(variant):
    trained = _variables(_module("vgg11", 32, 5, **NARROW), 32)["params"]
    fresh = jax.tree.map(jnp.zeros_like, _variables(_module(variant, 32, 5, **NARROW), 32)["params"])
    started = weights.from_trained_a(fresh, trained)
    assert started.keys() == fresh.keys()
    copied = [name for name, layer in started.items() if np.any(layer["kernel"])]
    assert copied == ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"]
    np.testing.assert_array_equal(started["fc7"]["kernel"], trained["fc7"]["kernel"])


def test_starting_from_a_net_of_another_width_is_refused():
    trained = _variables(_module("vgg11", 32, 5, **NARROW), 32)["params"]
    fresh = _variables(_module("vgg16", 32, 5, width=8, fc_width=16), 32)["params"]
    with pytest.raises(UserError, match=r"conv1_1/bias of the trained net has shape \(4,\), expected \(8,\)"):
        weights.from_trained_a(fresh, trained)


def test_smallest_image():
    module = _module("vgg11", 32, 5, **NARROW)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    assert jax.eval_shape(module.apply, networks.shapes(module, (32, 32, 3)), images).shape == (1, 5)
    with pytest.raises(UserError, match="vgg vgg16 takes images of 32x32 pixels or more, got 31x31"):
        _module("vgg16", 31)


def test_a_wrong_configuration_is_refused_in_one_line():
    with pytest.raises(UserError, match="unknown config.model.configuration 'F'"):
        _module("vgg16", configuration="F")
    with pytest.raises(UserError, match="config.model.width is 0; expected at least 1"):
        _module("vgg16", width=0)
    with pytest.raises(UserError, match="config.model.ghost_batches has no effect without batch_norm=True"):
        _module("vgg16", ghost_batches=2)
