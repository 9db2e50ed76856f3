"""The error that a test protocol with several views of an image saves."""

import pathlib

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
