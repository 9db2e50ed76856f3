"""The epochs that a run takes to a training error."""

import json
from types import SimpleNamespace

import pytest

from common.claims import targets
from common.run import metrics, workdir


@pytest.mark.parametrize(
    ("errors", "epochs", "bound"),
    [((0.4, 0.26, 0.25, 0.3), 1.5, False), ((0.4, 0.3, 0.26, 0.27), 2.0, True)],
)
def test_epochs_to_an_error_or_the_whole_length_as_a_bound(tmp_path, monkeypatch, errors, epochs, bound):
    records = [{"step": 5 * (1 + n), "split": "train", "error": error} for n, error in enumerate(errors)]
    (tmp_path / metrics.FILE).write_text("".join(json.dumps(record) + "\n" for record in records))
    config = SimpleNamespace(train=SimpleNamespace(batch_size=10))
    monkeypatch.setattr(workdir, "load_config", lambda folder: config)
    monkeypatch.setattr(workdir, "load_info", lambda folder: SimpleNamespace(train_size=100))
    assert targets.epochs_until(tmp_path, 0.25) == epochs
    assert targets.never_reached(tmp_path, 0.25) is bound
