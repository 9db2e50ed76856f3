"""The paper's counts, by tracing."""

import math

import jax
import jax.numpy as jnp
import pytest

from common.anatomy import layer_table
from tests import networks
from tests.slow import rest_slow
from vit import paper


def network(variant, size=224, classes=1000, **changes):
    return networks.classifier("vit", variant, classes, (size, size, 3), **changes).module


def parameters(variant, size=224, **changes):
    params = networks.shapes(network(variant, size, **changes), (size, size, 3))["params"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


# Parameters at 224 pixels and 1000 classes; without class token; at 384 (H/14: 518) pixels; with 10 classes.
TOTALS = {
    "b16": (86_567_656, 86_566_120, 86_859_496, 85_806_346),
    "ti16": (5_717_416, 5_717_032, 5_790_376, 5_526_346),
    "s32": (22_878_952, 22_878_184, 22_915_432, 22_497_802),
    "s16": (22_050_664, 22_049_896, 22_196_584, 21_669_514),
    "b32": (88_224_232, 88_222_696, 88_297_192, 87_462_922),
    "l32": (306_535_400, 306_533_352, 306_632_680, 305_520_650),
    "l16": (304_326_632, 304_324_584, 304_715_752, 303_311_882),
    "h14": (632_045_800, 632_043_240, 633_470_440, 630_777_610),
}


@pytest.mark.parametrize("variant", rest_slow(TOTALS, quick=2))
def test_parameters(variant):
    larger = 518 if variant == "h14" else 384
    assert (
        parameters(variant),
        parameters(variant, pooling="average"),
        parameters(variant, larger),
        parameters(variant, classes=10),
    ) == TOTALS[variant]


HYBRIDS = {
    "r50_b16": 98_659_112,
    "r_ti16": 6_337_704,
    "r26_s32": 36_431_912,
    "r26_b32": 101_383_976,
    "r50_l32": 328_994_856,
}


@pytest.mark.parametrize(("variant", "expected"), rest_slow(HYBRIDS.items(), quick=2))
def test_parameters_of_hybrids(variant, expected):
    assert parameters(variant) == expected


def test_parameters_of_the_pre_training_head_and_of_the_plain_baseline():
    assert parameters("b16", classes=21_843, representation_size=768) == 103_186_515
    plain = {"pooling": "average", "position": "sincos2d"}
    assert parameters("s16", **plain, representation_size=384) == 22_122_472
    assert parameters("s16", **plain) == 21_974_632


def test_blocks_by_themselves_have_as_many_parameters_as_stacked():
    assert parameters("ti16", scan=False) == TOTALS["ti16"][0]


# Multiply-adds in billions, at 224 and at 384 pixels.
WORK = {
    "ti16": (1.2537, 4.6822),
    "s32": (1.1429, 3.4429),
    "s16": (4.5989, 15.4904),
    "b32": (4.4092, 13.0436),
    "b16": (17.5638, 55.4844),
    "l32": (15.3775, 45.2760),
    "l16": (61.5547, 191.0663),
}


def multiply_adds(variant, size):
    module = network(variant, size)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = networks.shapes(module, (size, size, 3))
    return sum(layer_table.multiply_adds(module.apply, variables, images).values())


@pytest.mark.parametrize("variant", rest_slow(WORK, quick=2))
def test_multiply_adds(variant):
    assert tuple(round(multiply_adds(variant, size) / 1e9, 4) for size in (224, 384)) == WORK[variant]


def test_multiply_adds_of_the_largest():
    assert round(multiply_adds("h14", 224) / 1e9, 4) == 167.2951


TOKENS = [
    ("b16", 384, 577),
    ("h14", 518, 1370),
    ("r_ti16", 224, 50),
    ("b16", 224, 197),
    ("l16", 512, 1025),
    ("b32", 224, 50),
    ("b32", 384, 145),
    ("h14", 224, 257),
    ("r26_s32", 224, 50),
    ("r50_b16", 224, 197),
    ("r50_l32", 384, 145),
]


@pytest.mark.parametrize(("variant", "size", "tokens"), rest_slow(TOKENS, quick=3))
def test_numbers_of_tokens(variant, size, tokens):
    module = network(variant, size)
    params = networks.shapes(module, (size, size, 3))["params"]
    assert params["Transformer"]["posembed_input"]["pos_embedding"].shape == (1, tokens, module.hidden_size)
    rows, columns = module.grid((size, size, 3))
    assert rows * columns + 1 == tokens


@pytest.mark.parametrize("variant", ["b16", "h14"])
def test_the_layer_table_agrees_with_the_papers_equations(variant):
    rows = {row.name: row for row in layer_table.rows(network(variant), (224, 224, 3))}
    for layer, facts in paper.LAYERS[variant].items():
        assert {column: getattr(rows[layer], column) for column in facts} == facts


def test_layer_by_layer_parameters_of_the_base_network():
    layers = {layer: facts["parameters"] for layer, facts in paper.LAYERS["b16"].items()}
    assert layers["embedding"] == 590_592
    assert layers["Transformer/posembed_input"] == 151_296
    assert layers["Transformer/encoderblock"] == 12 * 7_087_872
    assert layers["Transformer/encoderblock/MultiHeadDotProductAttention_0"] == 12 * 2_362_368
    assert layers["Transformer/encoderblock/MlpBlock_0"] == 12 * 4_722_432
    assert layers["Transformer/encoder_norm"] == 1_536
    assert layers["head"] == 769_000
    assert sum(layers[name] for name in ("embedding", "Transformer", "head")) + 768 == 86_567_656
