"""The error that several views of an image, or several networks, save."""

import pathlib
from collections.abc import Sequence

from common.protocols import catalogue, measure
from common.run import trained


def gain(folder: pathlib.Path, protocol: str) -> float:
    """The test error with a single view, the centre of the image, less that with a protocol's views (fractions).

    Reads the run's checkpoint. The single view has the protocol's scale. UserError for a protocol that the network
    cannot do.
    """
    run = trained.load(folder)
    scores = [measure.score(run, catalogue.passes(run, name)) for name in ("single", protocol)]
    single, several = (measure.errors(score)["top1_error"] for score in scores)
    return single - several


def ensemble_gain(folders: Sequence[pathlib.Path]) -> float:
    """The mean test error of these runs, less the error of their mean probabilities (fractions).

    Reads the runs' checkpoints.
    """
    runs = (trained.load(folder) for folder in folders)  # one network at a time on the device
    scores = [measure.score(run, catalogue.passes(run, "single")) for run in runs]
    alone = [measure.errors(score)["top1_error"] for score in scores]
    return sum(alone) / len(alone) - measure.errors(measure.ensemble(scores))["top1_error"]
