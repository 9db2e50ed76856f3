"""The error that several views, or several networks, save."""

import dataclasses
import pathlib

import jax
import numpy as np
import optax
import pytest

from common import models
from common.claims import protocol_errors
from common.data import datasets
from common.data.dataset_info import Info
from common.devices import mesh
from common.protocols import catalogue, measure
from common.run import trained
from tests import networks, small_run


@pytest.fixture(scope="module")
def run():
    """A small network with random weights and 90 digits to test it with."""
    config = small_run.get_config(**{"data.resize": 12, "data.crop": 8, "data.holdout": 0.05})
    info = Info("digits", 10, tuple("0123456789"), (8, 8, 1), 1707, 90)
    classifier = models.make_classifier(config.model, info)
    variables = networks.state(classifier, optax.sgd(0.1)).variables()
    variables = jax.tree.map(lambda leaf: leaf if leaf.ndim > 1 else 0 * leaf, variables)  # images decide, not biases
    return trained.Run(config, info, classifier, variables, 0, mesh.make_mesh(config.mesh))


@pytest.mark.slow
def test_the_gain_is_the_error_of_the_centre_less_that_of_all_views(run, monkeypatch, tmp_path):
    monkeypatch.setattr(trained, "load", lambda folder: run)
    single = trained.predictions(run, datasets.load_test(run.config.data)).error
    several = measure.errors(measure.score(run, catalogue.passes(run, "ten_crop")))["top1_error"]
    assert abs(single - several) > 0.005  # one of the 90 images, at least
    assert protocol_errors.error(tmp_path, "ten_crop") == pytest.approx(several, abs=1e-6)
    assert protocol_errors.gain(tmp_path, "ten_crop") == pytest.approx(single - several, abs=1e-6)
    assert protocol_errors.gain(tmp_path, "single", over="ten_crop") == -protocol_errors.gain(tmp_path, "ten_crop")


def test_some_of_the_test_images_are_the_first_ones(run, monkeypatch, tmp_path):
    monkeypatch.setattr(trained, "load", lambda folder: run)
    scores = measure.score(run, catalogue.passes(run, "ten_crop"))
    wrong = scores.log_probabilities.argmax(-1) != scores.labels
    assert wrong[:30].mean() != wrong.mean()
    assert protocol_errors.error(tmp_path, "ten_crop", examples=30) == pytest.approx(wrong[:30].mean(), abs=1e-6)
    assert protocol_errors.error(tmp_path, "ten_crop", examples=100) == pytest.approx(wrong.mean(), abs=1e-6)


@pytest.mark.slow
def test_the_gain_of_an_ensemble_is_the_mean_error_less_that_of_the_mean_probabilities(run, monkeypatch):
    other = networks.state(run.classifier, optax.sgd(0.1), seed=1).variables()
    runs = {pathlib.Path("first"): run, pathlib.Path("second"): dataclasses.replace(run, variables=other)}
    monkeypatch.setattr(trained, "load", runs.get)
    scores = [measure.score(one, catalogue.passes(one, "single")) for one in runs.values()]
    mean = np.mean([np.exp(score.log_probabilities) for score in scores], axis=0)
    alone = [np.mean(score.log_probabilities.argmax(-1) != score.labels) for score in scores]
    together = np.mean(mean.argmax(-1) != scores[0].labels)
    assert protocol_errors.ensemble_gain(list(runs)) == pytest.approx(np.mean(alone) - together, abs=1e-6)
    assert protocol_errors.ensemble_gain([pathlib.Path("first")] * 2) == 0
    assert abs(np.mean(alone) - together) > 0.005
