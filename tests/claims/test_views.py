"""The error that a test protocol saves."""

import jax
import optax
import pytest

from common import config as config_lib
from common import models
from common.claims import views
from common.data import datasets
from common.data.datasets import Info
from common.devices import mesh
from common.protocols import catalogue, measure
from common.run import trained
from tests import networks


def test_the_gain_is_the_error_of_the_centre_less_that_of_all_views(monkeypatch, tmp_path):
    config = config_lib.base(models.section("alexnet", "small", widths=(4, 4, 4, 4, 4), fc_width=8))
    config.data.update({"resize": 24, "crop": 16, "holdout": 0.05})
    config.mesh.devices = 1
    info = Info("digits", 10, tuple("0123456789"), (16, 16, 1), 1707, 90)
    classifier = models.make_classifier(config.model, info)
    variables = networks.state(classifier, optax.sgd(0.1)).variables()
    variables = jax.tree.map(lambda leaf: leaf if leaf.ndim > 1 else 0 * leaf, variables)  # images decide, not biases
    run = trained.Run(config, info, classifier, variables, 0, mesh.make_mesh(config.mesh))
    monkeypatch.setattr(trained, "load", lambda folder: run)
    single = trained.predictions(run, datasets.load_test(config.data)).error
    several = measure.errors(measure.score(run, catalogue.passes(run, "ten_crop")))["top1_error"]
    assert abs(single - several) > 0.005  # one of the 90 images, at least
    assert views.gain(tmp_path, "ten_crop") == pytest.approx(single - several, abs=1e-6)
