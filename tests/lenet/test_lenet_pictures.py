"""Tests that F6's drawings are F6's outputs: their distances to the bitmaps are the network's penalties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import models
from common.data.dataset_info import Info
from common.devices import mesh
from common.report import page
from common.run import trained
from configs import lenet5_mnist, lenet5_mnist_modern
from lenet import pictures
from lenet.bitmaps import CENTRES
from tests import networks

INFO = Info("digits", 10, tuple("0123456789"), (32, 32, 1), 100, 100)


def untrained(config):
    classifier = models.make_classifier(config.model, INFO)
    shapes = jax.eval_shape(classifier.module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    variables = networks.drawn(shapes)
    return trained.Run(config, INFO, classifier, variables, 0, mesh.make_mesh(config.mesh))


@pytest.fixture(scope="module")
def network():
    return untrained(lenet5_mnist.get_config())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 1), np.uint8)


def test_penalties_are_squared_distances_of_the_drawings_from_the_bitmaps(network, images):
    drawn = pictures.features(network, images).astype(np.float64)
    penalties = ((drawn[:, None] - CENTRES) ** 2).sum(-1)
    apply = jax.jit(network.classifier.module.apply)
    outputs = apply(network.variables, trained.network_input(network, jnp.asarray(images)))
    np.testing.assert_allclose(penalties, outputs, rtol=1e-4)


def test_a_class_is_drawn_from_its_first_image_and_its_mean(network, images):
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0], np.int32)  # no nine among them
    features = pictures.features(network, images)
    figure = pictures.drawings(images, features, labels, INFO.class_names)
    cells = np.array(figure.axes[:40]).reshape(4, 10)
    for column in range(9):
        example, mean = features[column], features[labels == column].mean(0)
        for row, values in ((1, example), (2, CENTRES[column]), (3, mean)):
            np.testing.assert_allclose(cells[row, column].images[0].get_array(), values.reshape(12, 7), rtol=1e-5)
    assert [bool(axes.images) for axes in cells[:, 9]] == [False, False, True, False]


@pytest.mark.slow
def test_only_networks_with_bitmaps_have_pictures(network, images):
    labels = np.arange(12, dtype=np.int32) % 10
    [(title, caption, figure)] = pictures.pictures(network, images, labels)
    assert title
    assert "12 of the test set" in caption
    assert page.Picture(figure, title).png
    assert pictures.pictures(untrained(lenet5_mnist_modern.get_config()), images, labels) == []
