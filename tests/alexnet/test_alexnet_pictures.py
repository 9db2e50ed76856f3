"""The colourfulness of the two columns' kernels, and which networks have the picture."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet import pictures
from common import models
from common.config import base
from common.data.dataset_info import Info
from common.devices import mesh
from common.run.trained import Run


def test_colourfulness_is_0_for_grey_kernels_and_1_for_opponent_ones():
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.normal(size=(11, 11, 1, 4)), 3, axis=2)
    opponent = rng.normal(size=(11, 11, 1, 4)) * np.array([1, -1, 0])[:, None]
    random = rng.normal(size=(11, 11, 3, 4))
    np.testing.assert_allclose(pictures.colourfulness(grey), 0, atol=1e-6)
    np.testing.assert_allclose(pictures.colourfulness(opponent), 1, rtol=1e-6)
    np.testing.assert_allclose(pictures.colourfulness(random), 2 / 3, atol=0.1)


@pytest.mark.parametrize(("columns", "channels", "count"), [(2, 3, 1), (1, 3, 0), (2, 1, 0)])
def test_only_networks_in_two_columns_for_colour_images_have_the_picture(columns, channels, count):
    kernel = np.random.default_rng(0).normal(size=(11, 11, channels, 96)).astype(np.float32)
    section = models.section("alexnet", "two_column", columns=columns)
    info = Info("none", 10, tuple("0123456789"), (224, 224, channels), 1, 1)
    variables = {"params": {"conv1": {"kernel": kernel}}}
    run = Run(
        ConfigDict(),
        info,
        models.make_classifier(section, info),
        variables,
        step=0,
        mesh=mesh.make_mesh(base(section).mesh),
    )
    drawn = pictures.pictures(run, np.zeros((1, 224, 224, channels), np.uint8), np.zeros(1, int))
    assert len(drawn) == count
    for _, _, figure in drawn:
        assert [len(part.axes[0].images) for part in figure.subfigs] == [48, 48]
