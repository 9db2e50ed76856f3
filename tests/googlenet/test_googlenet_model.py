"""GoogLeNet's facts: parameters, map sizes, multiply-adds; auxiliary classifiers; the loss."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import models
from common.anatomy import layer_table
from common.errors import UserError
from common.nn.losses import cross_entropy
from googlenet import model, paper
from tests import networks
from tests.slow import marked

KEY = jax.random.key(0, impl="rbg")  # compiles several times faster than the default
IMAGENET = (224, 224, 3)
WIDTH = 1 / 16  # the same in all tests, since JAX traces an initialisation once for each shape


def _classifier(variant, size=224, classes=1000, **changes):
    return networks.classifier("googlenet", variant, classes, (size, size, 3), **changes)


def _count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _variables(module, size):
    """Values with which every layer matters, drawn without compiling the initialisation."""
    rng = np.random.default_rng(0)
    shapes = networks.shapes(module, (size, size, 3))
    draw = lambda leaf: jnp.asarray(rng.normal(0, (2 / max(leaf.size // leaf.shape[-1], 8)) ** 0.5, leaf.shape))  # noqa: E731
    return jax.tree.map(lambda leaf: draw(leaf).astype(jnp.float32), shapes)


@pytest.fixture(scope="module")
def small():
    """A network with a sixteenth of the maps, the shapes of its variables, three images, and outputs as in training."""
    module = _classifier("googlenet", 80, 5, width=WIDTH).module
    variables = networks.shapes(module, (80, 80, 3))
    images = jax.ShapeDtypeStruct((3, 80, 80, 3), jnp.float32)
    apply = functools.partial(module.apply, train=True, rngs={"dropout": KEY})
    return module, variables, images, networks.drawn(jax.eval_shape(apply, variables, images), scale=3.0)


@pytest.fixture(scope="module")
def rows():
    """The rows of the paper's network."""
    return {row.name: row for row in layer_table.rows(_classifier("googlenet").module, IMAGENET)}


def test_totals(rows):
    assert rows[""].parameters == 13_378_280
    assert rows[""].parameters - rows["aux1"].parameters - rows["aux2"].parameters == 6_998_552


@pytest.mark.parametrize(
    ("variant", "main", "with_auxiliary"),
    [("googlenet_torchvision", 6_624_904, 13_004_888), marked(("googlenet_bn", 7_005_832, 13_385_816))],
)
def test_totals_with_batch_normalisation(variant, main, with_auxiliary):
    shapes = networks.shapes(_classifier(variant).module, IMAGENET)["params"]
    assert _count(shapes) == with_auxiliary
    assert _count({name: tree for name, tree in shapes.items() if not name.startswith("aux")}) == main


def test_every_layer_is_the_papers(rows):
    facts = paper.LAYERS["googlenet"]
    assert {name: rows[name].output_shape for name in facts} == {n: f["output_shape"] for n, f in facts.items()}
    assert rows[""].multiply_adds == 1_582_671_872
    # "ops" agree to a million, except in the rows that paper.py names.
    for name, fact in facts.items():
        if "multiply_adds" in fact and name not in ("conv1", "inception_5a"):
            assert abs(rows[name].multiply_adds / 1e6 - int(fact["multiply_adds"][:-1])) < 1, name
    # "params" are weights in units of 1024 in these rows.
    for name in ("inception_3a", "inception_3b", "inception_4b"):
        weights = rows[name].parameters - sum(model.MODULES[name[-2:]])
        assert abs(weights / 1024 - int(facts[name]["parameters"][:-1])) < 1.01, name
    parameters = [rows[f"inception_{name}"].parameters for name in model.MODULES]
    assert parameters == [163_696, 388_736, 376_176, 449_160, 510_104, 605_376, 868_352, 1_043_456, 1_444_080]
    assert (rows["aux1"].parameters, rows["aux2"].parameters) == (3_188_840, 3_190_888)


def test_maps_of_the_auxiliary_classifiers(rows):
    assert rows["aux1/fc"].parameters == (4 * 4 * 128 + 1) * 1024
    assert rows["aux2/conv/conv"].parameters == (528 + 1) * 128
    bn = networks.shapes(_classifier("googlenet_torchvision").module, IMAGENET)["params"]
    assert (_count(bn["aux1"]), _count(bn["aux2"])) == (3_188_968, 3_191_016)
    assert "bias" not in bn["conv1"]["conv"]


def test_inference_does_not_depend_on_the_auxiliary_classifiers(small):
    module, variables, images, _ = small
    main = {name: tree for name, tree in variables["params"].items() if not name.startswith("aux")}
    outputs = jax.eval_shape(module.apply, {"params": main}, images)  # there is nothing that they could depend on
    assert outputs.auxiliary == ()
    assert outputs.logits.shape == (3, 5)
    assert networks.shapes(module.clone(auxiliary=False), (1, 1, 3))["params"] == main


def test_the_loss_adds_three_tenths_of_each_auxiliary_loss(small):
    outputs = small[-1]
    classifier = _classifier("googlenet", 80, 5, width=WIDTH)
    labels = jnp.array([0, 4, 2])
    losses = [cross_entropy(logits, labels) for logits in (outputs.logits, *outputs.auxiliary)]
    assert len(losses) == 3
    np.testing.assert_allclose(classifier.loss(outputs, labels), losses[0] + 0.3 * (losses[1] + losses[2]), rtol=1e-6)
    one_hot = jax.nn.one_hot(labels, 5)
    np.testing.assert_allclose(classifier.loss(outputs, one_hot), classifier.loss(outputs, labels), rtol=1e-5)
    np.testing.assert_array_equal(classifier.logits(outputs), outputs.logits)
    used = model.Outputs(outputs.logits)
    np.testing.assert_allclose(classifier.loss(used, labels), losses[0], rtol=1e-6)


@pytest.mark.parametrize("variant", model.VARIANTS)
def test_a_section_has_the_networks_options_and_the_weight_of_the_auxiliary_losses(variant):
    section = models.section("googlenet", variant).to_dict()
    assert section.pop("loss") == {"auxiliary_weight": 0.3}
    assert section.keys() == {
        *("family", "variant", "width", "stem", "lrn", "batch_norm", "ghost_batches", "five", "last_pool", "auxiliary"),
        *("auxiliary_pool", "auxiliary_dropout", "dropout", "weight_init", "hidden_bias", "dtype"),
    }


def test_the_weight_of_the_auxiliary_losses_is_an_option(small):
    outputs, labels = small[-1], jnp.array([0, 4, 2])
    without = _classifier("googlenet", 80, 5, width=WIDTH, loss={"auxiliary_weight": 0.0})
    np.testing.assert_array_equal(without.loss(outputs, labels), cross_entropy(outputs.logits, labels))


@pytest.mark.slow  # compiles a gradient for what the order of the modules says
def test_auxiliary_classifiers_teach_what_is_below_them_only(small):
    module = small[0]
    variables, images = _variables(module, 80), jax.random.normal(jax.random.key(1), (3, 80, 80, 3)) * 10

    @jax.jit
    @jax.grad
    def gradient(params):
        rngs = {"dropout": jax.random.key(2)}
        return jnp.sum(module.apply({"params": params}, images, train=True, rngs=rngs).auxiliary[0] ** 2)

    reached = {name for name, tree in gradient(variables["params"]).items() if any(map(np.any, jax.tree.leaves(tree)))}
    assert reached == {"conv1", "conv2_reduce", "conv2", "inception_3a", "inception_3b", "inception_4a", "aux1"}


def test_initial_parameters_exist_without_a_training_step_and_have_caffes_scale():
    module = _classifier("googlenet", 80, 5, width=WIDTH).module

    @jax.jit  # compiles the initialisation of what it returns
    def some_parameters():
        params = module.init(KEY, jnp.zeros((1, 80, 80, 3)))["params"]
        assert {"aux1", "aux2"} <= params.keys()
        biases = params["conv1"]["conv"]["bias"], params["linear"]["bias"]
        return params["inception_4e"]["3x3"]["conv"]["kernel"], *biases

    kernel, hidden_bias, last_bias = some_parameters()
    bound = (3 / np.prod(kernel.shape[:3])) ** 0.5
    assert float(jnp.abs(kernel).max()) == pytest.approx(bound, rel=0.01)
    np.testing.assert_array_equal(hidden_bias, np.float32(0.2))
    np.testing.assert_array_equal(last_bias, 0)


@pytest.mark.slow  # tests/nn/test_batch_norm.py has the statistics
def test_batch_statistics_move_in_training_only():
    module = _classifier("googlenet_small", 16, 5, width=WIDTH).module
    variables = _variables(module, 16)
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    rngs = {"dropout": jax.random.key(2)}
    outputs, state = jax.jit(
        lambda v, x: module.apply(v, x, train=True, rngs=rngs, mutable=["batch_stats"])
    )(variables, images)  # fmt: skip
    assert [logits.shape for logits in (outputs.logits, *outputs.auxiliary)] == [(4, 5)] * 3
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(
    ("variant", "changes", "smallest"),
    [("googlenet", {}, 79), ("googlenet_small", {"auxiliary_pool": "5x5"}, 10), ("googlenet", {"auxiliary": False}, 1)],
)
def test_smallest_image(variant, changes, smallest):
    module = _classifier(variant, smallest, 5, width=WIDTH, **changes).module
    assert networks.shapes(module, (smallest, smallest, 3))["params"]["linear"]["kernel"].shape == (1024 // 16, 5)
    if smallest > 1:
        with pytest.raises(UserError, match=f"takes images of {smallest}x{smallest} pixels or more"):
            _classifier(variant, smallest - 1, **changes)


@pytest.mark.parametrize(("side", "positions"), [(79, 5), (78, 4)])
def test_one_pixel_less_would_not_fill_the_auxiliary_window_of_5x5(side, positions):
    module = _classifier("googlenet", side, 5, width=WIDTH, auxiliary=False).module
    apply = functools.partial(module.apply, mutable=True, capture_intermediates=True)
    parameters = networks.shapes(module, (80, 80, 3))  # of any size
    _, variables = jax.eval_shape(apply, parameters, jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32))
    for name in model.AUXILIARY:
        [maps] = variables["intermediates"][f"inception_{name}"]["__call__"]
        assert maps.shape[1:3] == (positions, positions)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"auxiliary_pool": "5x5"}, "auxiliary_pool"),
        ({"auxiliary_dropout": 0.5}, "auxiliary_dropout"),
        ({"loss": {"auxiliary_weight": 0.1}}, "loss.auxiliary_weight"),
        ({"hidden_bias": 0.0}, "hidden_bias"),
    ],
)
def test_a_field_without_effect_is_refused(changes, option):
    models.check(models.section("googlenet", "googlenet_small", **changes))
    models.check(models.section("googlenet", "googlenet_small", auxiliary=False))
    with pytest.raises(UserError, match=f"config.model.{option} has no effect with"):
        models.check(models.section("googlenet", "googlenet_small", auxiliary=False, **changes))


def test_wrong_fields_are_refused_in_one_line():
    with pytest.raises(UserError, match="unknown config.model.five '4'"):
        _classifier("googlenet", five=4)
    for weight in (-0.1, math.nan):
        with pytest.raises(UserError, match=f"config.model.loss.auxiliary_weight is {weight}; expected at least 0"):
            models.check(models.section("googlenet", "googlenet", loss={"auxiliary_weight": weight}))
    with pytest.raises(UserError, match="stem='small' has no place for local response normalisation"):
        _classifier("googlenet", stem="small")
    with pytest.raises(UserError, match="config.model.ghost_batches has no effect without batch_norm=True"):
        _classifier("googlenet", ghost_batches=2)
