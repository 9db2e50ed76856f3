"""Classifies images with a fitted pipeline: `python -m classic.predict --workdir=DIR IMAGE [IMAGE ...]`.

Images are prepared and lines are printed as `common.predict` does. Probabilities are the softmax of the decoder's
scores; those of a support vector machine only rank the classes.
"""

import os
from collections.abc import Sequence

import numpy as np
from absl import flags

from classic import pipeline, saved
from classic.pipeline import Pipeline
from common import launch
from common.errors import UserError, user_path
from common.predict import Prediction, as_json, as_text, read_input

TAKES_ARGUMENTS = True

for _name in ("workdir", "top", "json", "invert"):  # of common.predict
    flags.declare_key_flag(_name)


def main(*files: str) -> None:
    """Prints a line for each image that the command line names."""
    given = flags.FLAGS
    if not given.workdir:
        raise UserError("--workdir is missing; for example --workdir=runs/classic_digits_fisher")
    if given.checkpoint:
        raise UserError(f"--checkpoint is '{given.checkpoint}', but a fitted pipeline has no checkpoints")
    if not files:
        raise UserError("no image given; expected python -m classic.predict --workdir=DIR IMAGE [IMAGE ...]")
    fitted = saved.load(user_path(given.workdir))
    predictions = predict(fitted, files, given.invert)
    lines = as_json(predictions, given.top) if given.json else as_text(predictions, given.top)
    print("\n".join(lines))


def predict(fitted: Pipeline, files: Sequence[str | os.PathLike], invert: bool = False) -> list[Prediction]:
    """The pipeline's predictions for image files; UserError names a file that holds no image.

    invert: swap black and white, in addition to what the run's config does.
    """
    prepared = [read_input(fitted, file, invert) for file in files]
    images, size = np.stack([image for image, _ in prepared]), fitted.config.evaluate.batch_size
    values = [pipeline.scores(fitted, images[start : start + size]) for start in range(0, len(images), size)]
    found = pipeline.as_predictions(np.concatenate(values), np.zeros(len(images), np.int32)).log_probabilities
    order = np.argsort(-found, axis=-1, kind="stable")
    return [
        Prediction(str(file), tuple((fitted.info.class_names[i], float(np.exp(row[i]))) for i in ranks), note)
        for file, row, ranks, (_, note) in zip(files, found, order, prepared, strict=True)
    ]


if __name__ == "__main__":
    launch.run(main)
