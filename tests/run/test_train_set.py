"""The error on the training set of a run's final network."""

import pytest

from common.data import datasets
from common.run import summary, trained
from tests.digits_run import digits_run


def test_the_summary_has_the_final_networks_error_on_the_training_set():
    content = summary.read(digits_run())
    run = trained.load(digits_run())
    train_set = datasets.load(run.config.data).train
    assert len(train_set) == run.info.train_size
    assert content["train_set"]["error"] == pytest.approx(trained.predictions(run, train_set).error, abs=1e-6)
    assert content["train_set"]["error"] != content["train"]["error"]
