"""The gain in error from several views of an image, or from several networks."""

import functools
import pathlib
from collections.abc import Sequence

from common.protocols import catalogue, measure
from common.run import trained


@functools.cache  # a measure and a picture may ask for the same error, which can take minutes
def error(folder: pathlib.Path, protocol: str, examples: int = 0) -> float:
    """The test error of a run with a protocol's views (a fraction), on the first `examples` test images; 0: on all.

    Reads the run's checkpoint. Raises UserError for a protocol that the network cannot do.
    """
    run = trained.load(folder)
    return measure.errors(measure.score(run, catalogue.passes(run, protocol), examples))["top1_error"]


def gain(folder: pathlib.Path, protocol: str, over: str = "single", examples: int = 0) -> float:
    """The test error with the views of protocol `over`, minus that with the views of `protocol` (fractions).

    examples: as in `error`. Reads the run's checkpoint. Raises UserError for a protocol that the network cannot do.
    """
    return error(folder, over, examples) - error(folder, protocol, examples)


def ensemble_gain(folders: Sequence[pathlib.Path]) -> float:
    """The mean test error of these runs, minus the error of their mean probabilities (fractions).

    Reads the runs' checkpoints.
    """
    runs = (trained.load(folder) for folder in folders)  # one network at a time on the device
    scores = [measure.score(run, catalogue.passes(run, "single")) for run in runs]
    alone = [measure.errors(score)["top1_error"] for score in scores]
    return sum(alone) / len(alone) - measure.errors(measure.ensemble(scores))["top1_error"]
