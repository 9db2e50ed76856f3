"""The facts that the papers print: counts, constants, the connection table, the bitmaps, eq. 9."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import models
from lenet import bitmaps, layers, losses, model, paper
from tests import networks


def _parameter_shapes(variant, **changes):
    config = models.section("lenet", variant, **changes)
    size = config.get("image_size", model.NETWORKS[variant].image_size)
    module = models.make_classifier(config, networks.facts(10, (size, size, 1))).module
    return config, networks.shapes(module, (size, size, 1))["params"]


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("variant", ["lenet5", "lenet1989", "lenet1", "mlp1989"])
def test_parameters_and_connections_of_every_layer_are_the_papers(variant):
    config, params = _parameter_shapes(variant)
    assert {layer: _count(params.get(layer, {})) for layer in paper.LAYERS[variant]} == {
        layer: facts["parameters"] for layer, facts in paper.LAYERS[variant].items()
    }
    assert list(paper.connections(config, params).items()) == [
        (layer, facts["connections"]) for layer, facts in paper.LAYERS[variant].items()
    ]


@pytest.mark.parametrize(
    ("variant", "parameters", "connections"),
    [("lenet5", 60_000, 340_908), ("lenet1989", 9_760, 64_660), ("lenet1", 2_578, 98_442), ("mlp1989", 10_690, 10_690)],
)
def test_totals_are_the_papers(variant, parameters, connections):
    config, params = _parameter_shapes(variant)
    assert _count(params) == parameters == paper.TOTALS[variant]["parameters"]
    assert sum(paper.connections(config, params).values()) == connections == paper.TOTALS[variant]["connections"]


def test_full_c3_and_the_modern_network_have_their_known_sizes():
    assert _count(_parameter_shapes("lenet5", c3="full")[1]) == 60_900
    assert _count(_parameter_shapes("lenet5_modern")[1]) == 61_706


def test_c3_table_is_the_papers_drawing():
    drawing = """
        X . . . X X X . . X X X X . X X
        X X . . . X X X . . X X X X . X
        X X X . . . X X X . . X . X X X
        . X X X . . X X X X . . X . X X
        . . X X X . . X X X X . X X . X
        . . . X X X . . X X X X . X X X"""
    drawn = np.array([line.split() for line in drawing.strip().split("\n")]) == "X"
    table = np.zeros((6, 16), int)
    np.add.at(table, layers.links(model.C3_TABLE), 1)
    np.testing.assert_array_equal(table, drawn)


def test_each_h2_map_of_the_zip_code_network_reads_eight_h1_maps():
    assert [len(set(maps)) for maps in model.ZIP_H2_TABLE] == [8] * 12
    assert np.bincount(layers.links(model.ZIP_H2_TABLE)[0]).tolist() == [8] * 12


def test_bitmaps():
    centres = bitmaps.CENTRES
    assert centres.shape == (10, bitmaps.WIDTH * bitmaps.HEIGHT)
    assert set(np.unique(centres)) == {-1, 1}
    assert (centres == 1).sum(1).tolist() == [22, 16, 21, 23, 21, 26, 26, 16, 29, 25]
    hamming = {(a, b): int((centres[a] != centres[b]).sum()) for a, b in itertools.combinations(range(10), 2)}
    assert min(hamming, key=hamming.get) == (3, 8)
    assert hamming[3, 8] == 6
    assert max(hamming, key=hamming.get) == (4, 5)
    assert hamming[4, 5] == 37
    assert np.mean(list(hamming.values())) == pytest.approx(22.73, abs=0.005)


def test_the_drawing_of_a_seven_is_row_by_row():
    seven = bitmaps.CENTRES[7].reshape(bitmaps.HEIGHT, bitmaps.WIDTH)
    assert (seven[1] == 1).all()
    assert (seven[0] == -1).all()
    assert np.flatnonzero(seven[2] == 1).tolist() == [6]


def test_scaled_tanh_constants():
    slope = jax.jit(jax.grad(layers.scaled_tanh))
    assert float(layers.scaled_tanh(jnp.float32(1))) == pytest.approx(0.99999726, abs=1e-6)
    assert float(layers.scaled_tanh(jnp.float32(-1))) == pytest.approx(-0.99999726, abs=1e-6)
    assert float(slope(0.0)) == pytest.approx(1.14393, abs=1e-5)
    assert float(layers.scaled_tanh(jnp.float32(50))) == pytest.approx(1.7159, abs=1e-6)
    points = jnp.linspace(0, 3, 301)
    bend = jnp.abs(jax.jit(jax.vmap(jax.grad(slope)))(points))
    assert float(points[bend.argmax()]) == pytest.approx(1, abs=0.02)  # |f''| peaks near the targets


def test_silent_f6_is_equally_far_from_every_digit():
    np.testing.assert_array_equal(layers.RBF().apply({}, jnp.zeros((1, 84))), np.full((1, 10), 84))


def test_a_bitmap_at_f6_has_no_penalty_and_its_neighbours_have_four_times_the_hamming_distance():
    penalties = np.asarray(layers.RBF().apply({}, jnp.asarray(bitmaps.CENTRES)))
    np.testing.assert_array_equal(penalties, 4 * (bitmaps.CENTRES[:, None] != bitmaps.CENTRES).sum(-1))


@pytest.mark.parametrize(("penalty", "rubbish"), [(0.5, 10.0), (84.0, 10.0), (84.0, 0.1), (2000.0, 10.0)])
def test_map_loss_of_equal_penalties(penalty, rubbish):
    # y + log(e^-j + 10 e^-y), written so that float64 does not underflow at y = 2000
    expected = penalty - rubbish + math.log1p(10 * math.exp(rubbish - penalty))
    loss = losses.penalty_map(jnp.full((1, 10), penalty), jnp.array([3]), rubbish=rubbish)
    assert float(loss[0]) == pytest.approx(expected, rel=1e-5)


def test_map_loss_is_positive_and_pushes_only_penalties_below_the_rubbish_class():
    penalties = jnp.array([[1.0, 3.0, 60.0] + 7 * [80.0]])
    loss_of = jax.jit(jax.value_and_grad(lambda y: losses.penalty_map(y, jnp.array([0]), rubbish=10.0)[0]))
    loss, gradient = loss_of(penalties)
    assert loss > 0
    assert gradient[0, 0] > 0  # the correct class is pulled closer,
    assert gradient[0, 1] < -0.05  # a wrong one that is close is pushed away,
    assert abs(gradient[0, 2]) < 1e-6  # one that is far is left alone


def test_losses_of_one_example_by_hand():
    outputs = jnp.array([[1.0, -1.0, 0.5]])
    assert losses.place_coded_mse(outputs, jnp.array([0]))[0] == pytest.approx((0 + 0 + 1.5**2) / 3)
    assert losses.penalty_mse(jnp.array([[4.0, 7.0]]), jnp.array([1]))[0] == 7
