"""The gain in error from several views of an image, or from several networks."""

import pathlib
from collections.abc import Sequence

from common.protocols import catalogue, measure
from common.run import trained
from common.run.trained import Run


def error(folder: pathlib.Path, protocol: str, examples: int = 0) -> float:
    """The test error of a run with a protocol's views (a fraction), on the first `examples` test images; 0: on all.

    Reads the run's checkpoint. Raises UserError for a protocol that the network cannot do.
    """
    return _error(trained.load(folder), protocol, examples)


def gain(folder: pathlib.Path, protocol: str, over: str = "single", examples: int = 0) -> float:
    """The test error with the views of protocol `over`, minus that with the views of `protocol` (fractions).

    examples: as in `error`. Reads the run's checkpoint. Raises UserError for a protocol that the network cannot do.
    """
    run = trained.load(folder)
    return _error(run, over, examples) - _error(run, protocol, examples)


def _error(run: Run, protocol: str, examples: int) -> float:
    return measure.errors(measure.score(run, catalogue.passes(run, protocol), examples))["top1_error"]


def ensemble_gain(folders: Sequence[pathlib.Path]) -> float:
    """The mean test error of these runs, minus the error of their mean probabilities (fractions).

    Reads the runs' checkpoints.
    """
    runs = (trained.load(folder) for folder in folders)  # one network at a time on the device
    scores = [measure.score(run, catalogue.passes(run, "single")) for run in runs]
    alone = [measure.errors(score)["top1_error"] for score in scores]
    return sum(alone) / len(alone) - measure.errors(measure.ensemble(scores))["top1_error"]
