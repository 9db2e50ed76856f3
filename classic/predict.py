"""Classifies images with a fitted pipeline: `python -m classic.predict --workdir=DIR PATH [PATH ...]`.

It prepares images and prints lines as `common.predict` does. Probabilities are the softmax of the decoder's scores;
those of a support vector machine only rank the classes.
"""

import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

from classic import pipeline, saved
from common import launch
from common.data.preparation import PreparedPixels
from common.errors import UserError
from common.files import user_path
from common.predict import OF_NETWORKS, Compute, check_options, show
from common.prediction.network import BatchOutputs

for _name in ("workdir", "top", "json", "csv", "invert"):  # of common.predict
    flags.declare_key_flag(_name)


def main(*paths: str) -> None:
    """Prints a line for each image that the command line names."""
    given = flags.FLAGS
    if not given.workdir:
        raise UserError("--workdir is missing; for example --workdir=runs/classic_digits_fisher")
    if given.checkpoint:
        raise UserError(f"--checkpoint is '{given.checkpoint}', but a fitted pipeline has no checkpoints")
    for name in OF_NETWORKS:
        if given[name].value is not None:
            raise UserError(f"--{name} needs a network, but classic.predict uses a fitted pipeline")
    check_options(paths, "classic.predict")
    fitted = saved.load(user_path(given.workdir))

    def compute(images: Sequence[PreparedPixels]) -> BatchOutputs:
        scores = pipeline.scores(fitted, np.stack(images))
        return BatchOutputs(pipeline.as_predictions(scores, np.zeros(len(images), np.int32)).log_probabilities)

    def start(files: int) -> tuple[int, Compute]:
        return fitted.config.evaluate.batch_size, compute

    sys.exit(show(fitted, paths, start))


if __name__ == "__main__":
    launch.run(main)
