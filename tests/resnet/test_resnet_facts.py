"""Counts of the paper's networks: parameters, multiply-adds, layers, map sizes."""

import functools

import jax
import jax.numpy as jnp
import pytest

from common import models
from common.anatomy import layer_table
from common.errors import UserError
from common.training import state
from resnet import paper
from resnet.model import VARIANTS, network, weighted_layers
from tests import networks
from tests.slow import rest_slow

CIFAR = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18, 1202: 200}
# Parameters with shortcut options A (and plain), B and C, and 1,000 classes.
IMAGENET = {
    18: (11_515_688, 11_689_512, 12_043_816),
    34: (21_623_848, 21_797_672, 22_716_840),
    50: (22_780_456, 25_557_032, 40_128_552),
    101: (41_772_584, 44_549_160, 76_981_288),
    152: (57_416_232, 60_192_808, 107_335_720),
}


def module_of(variant, num_classes=None, **changes):
    section = models.section("resnet", variant, **changes)
    return network(section, num_classes or (10 if section.stem == "cifar" else 1000))


def images_for(module):
    side = 32 if module.stem == "cifar" else 224
    return jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)


def shapes(module):
    return networks.shapes(module, images_for(module).shape[1:])


def parameters(variant, num_classes=None, **changes):
    return state.num_parameters(shapes(module_of(variant, num_classes, **changes))["params"])


@functools.cache
def output_shapes(module):
    """Top-level layer -> its output's shape without the batch axis."""
    apply = functools.partial(module.apply, capture_intermediates=True, mutable="intermediates")
    _, captured = jax.eval_shape(apply, shapes(module), images_for(module))
    layers = {name: tree for name, tree in captured["intermediates"].items() if name != "__call__"}
    return {name: tree["__call__"][0].shape[1:] for name, tree in layers.items()}


def multiply_adds(variant, **changes):
    module = module_of(variant, **changes)
    return sum(layer_table.multiply_adds(module.apply, shapes(module), images_for(module)).values())


@pytest.mark.parametrize("depth", rest_slow(IMAGENET))
def test_imagenet_parameters_by_shortcut_option(depth):
    # Scanned blocks, of which one is traced, have the same parameters: see below.
    assert tuple(parameters(f"resnet{depth}", shortcut=option, scan="on") for option in "ABC") == IMAGENET[depth]
    assert parameters(f"resnet{depth}_modern", scan="on") == IMAGENET[depth][1]


@pytest.mark.parametrize("depth", [18, 34])
def test_plain_nets_have_the_parameters_of_option_a(depth):
    found = [parameters(f"{kind}{depth}", scan="on") for kind in ("plain", "resnet")]
    assert found == [IMAGENET[depth][0]] * 2


@pytest.mark.parametrize(("depth", "n"), rest_slow(CIFAR.items(), quick=1))
def test_cifar_parameters(depth, n):
    assert parameters(f"resnet{depth}") == 97_216 * n - 21_926
    assert parameters(f"resnet{depth}", shortcut="B", scan="on") == 97_216 * n - 21_926 + 2_752
    assert parameters(f"resnet{depth}", num_classes=100, scan="on") == 97_216 * n - 21_926 + 5_850
    if depth < 1202:
        assert parameters(f"plain{depth}") == 97_216 * n - 21_926


@pytest.mark.parametrize("scan", rest_slow(["auto", "on", "off"]))
def test_any_n_and_any_layout_have_the_same_parameters(scan):
    assert parameters("resnet20", stage_sizes=(12, 12, 12), scan=scan) == 97_216 * 12 - 21_926


@pytest.mark.parametrize(
    ("variant", "stages"),
    [
        ("resnet18_modern", (9_536, 147_968, 525_568, 2_099_712, 8_393_728, 513_000)),
        ("resnet34_modern", (9_536, 221_952, 1_116_416, 6_822_400, 13_114_368, 513_000)),
        ("resnet50", (9_536, 215_808, 1_219_584, 7_098_368, 14_964_736, 2_049_000)),
    ],
)
def test_parameters_of_each_stage(variant, stages):
    params = shapes(module_of(variant, scan="on"))["params"]
    prefixes = (("conv1", "bn1"), "conv2_", "conv3_", "conv4_", "conv5_", "fc")
    counted = (state.num_parameters({k: v for k, v in params.items() if k.startswith(prefix)}) for prefix in prefixes)
    assert tuple(counted) == stages


MULTIPLY_ADDS = {
    "resnet50": 3_857_973_248,
    "resnet152_modern": 11_513_626_624,
    "plain34": 3_644_493_824,
    "resnet20": 40_551_040,
    "resnet1202": 2_829_238_912,
    "resnet18_modern": 1_814_073_344,
    "resnet34_modern": 3_663_761_408,
    "resnet50_modern": 4_089_184_256,
    "resnet101": 7_570_194_432,
    "resnet101_modern": 7_801_405_440,
    "resnet152": 11_282_415_616,
    "resnet18": 1_794_805_760,
    "plain18": 1_794_805_760,
    "resnet32": 68_862_592,
    "resnet44": 97_174_144,
    "resnet56": 125_485_696,
    "plain56": 125_485_696,
    "resnet110": 252_887_680,
}


@pytest.mark.parametrize(("variant", "expected"), rest_slow(MULTIPLY_ADDS.items(), quick=5))
def test_multiply_adds(variant, expected):
    # One of the scanned blocks is traced; the facts in tests/claims/test_facts.py count all blocks one by one.
    assert multiply_adds(variant, scan="on") == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_number_in_a_name_counts_the_layers_with_weights(variant):
    module = module_of(variant)
    assert weighted_layers(module.stage_sizes, module.block) == int("".join(filter(str.isdigit, variant)))


@pytest.mark.parametrize("variant", rest_slow(dict.fromkeys([*MULTIPLY_ADDS, *VARIANTS]), quick=5))
def test_every_layer_with_weights_has_one_kernel(variant):
    module = module_of(variant, scan="on")
    kernels = 0
    for path, leaf in jax.tree.leaves_with_path(shapes(module)["params"]):
        if path[-1].key == "kernel" and path[-2].key != "conv":  # 'conv' is a shortcut's
            kernels += leaf.shape[0] if path[0].key.endswith("_x") else 1
    assert kernels == weighted_layers(module.stage_sizes, module.block)


@pytest.mark.parametrize(
    ("variant", "sides", "channels"),
    rest_slow(
        [
            ("resnet20", (32, 32, 16, 8), (16, 16, 32, 64)),
            ("resnet50", (112, 56, 28, 14, 7), (64, 256, 512, 1024, 2048)),
            ("resnet34", (112, 56, 28, 14, 7), (64, 64, 128, 256, 512)),
        ],
        quick=2,
    ),
)
def test_map_sizes(variant, sides, channels):
    outputs = output_shapes(module_of(variant))
    names = ["conv1", *(f"conv{stage}_2" for stage in range(2, len(sides) + 1))]
    expected = [(side, side, count) for side, count in zip(sides, channels, strict=True)]
    assert [outputs[name] for name in names] == expected


@pytest.mark.parametrize(("variant", "running"), [("resnet50", 53_120), ("resnet20", 2 * (16 + 224 * 3))])
def test_running_statistics_are_two_for_each_normalised_channel(variant, running):
    assert state.num_parameters(shapes(module_of(variant))["batch_stats"]) == running


def test_option_c_adds_thirteen_projections_to_the_three_of_option_b():
    count = {}
    for option in "BC":
        params = shapes(module_of("resnet34", shortcut=option))["params"]
        count[option] = sum("shortcut" in block for block in params.values())
    assert count == {"B": 3, "C": 16}


@pytest.mark.parametrize("variant", rest_slow(paper.LAYERS, quick=4))
def test_output_sizes_in_the_papers_tables(variant):
    outputs = output_shapes(module_of(variant))
    for name, facts in paper.LAYERS[variant].items():
        assert outputs[name] == facts["output_shape"]


def test_an_unknown_variant_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'resnet152_modern'"):
        models.section("resnet", "resnet152_modem")
