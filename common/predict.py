"""Classifies images with a trained run: `python -m common.predict --workdir=DIR IMAGE [IMAGE ...]`.

Each image is prepared as test images are (channels, inversion, size, centre, padding: the run's `config.data`). One
line gives its likeliest class, the probability of that class, and the next classes. Probabilities are the softmax of
the logits; the logits of a network with penalties are the negative penalties.
"""

import dataclasses
import json
import os
from collections.abc import Sequence

import numpy as np
from absl import flags
from jaxtyping import UInt8
from PIL import Image, ImageOps

from common import launch
from common.data import decode, preparation
from common.data.preparation import Preparation
from common.data.sources import ArraySource
from common.errors import UserError, user_path
from common.run import trained
from common.run.trained import Run, Trained

TAKES_ARGUMENTS = True
WHITE = 255

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of a trained run", allow_override=True)
_CHECKPOINT = launch.define_checkpoint()
_TOP = flags.DEFINE_integer("top", 3, "number of classes to show after the likeliest", lower_bound=0)
_JSON = flags.DEFINE_boolean("json", False, "print one JSON object for each image")
_INVERT = flags.DEFINE_boolean(
    "invert",
    False,
    "swap black and white: for images that are negatives of what the run was trained on, such as photographs of dark "
    "ink on light paper where the training digits are bright on black",
)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The classes of one image.

    ranking: (class name, probability) of every class, the likeliest first. note: a remark on anything that was done
    to the image and not to training images, or ''.
    """

    file: str
    ranking: tuple[tuple[str, float], ...]
    note: str = ""


def main(*files: str) -> None:
    """Prints a line for each image that the command line names."""
    if not _WORKDIR.value:
        raise UserError("--workdir is missing; for example --workdir=runs/lenet5_digits")
    if not files:
        raise UserError("no image given; expected python -m common.predict --workdir=DIR IMAGE [IMAGE ...]")
    run = trained.load(user_path(_WORKDIR.value), _CHECKPOINT.value or "")
    predictions = predict(run, files, _INVERT.value)
    lines = as_json(predictions, _TOP.value) if _JSON.value else as_text(predictions, _TOP.value)
    print("\n".join(lines))


def predict(run: Run, files: Sequence[str | os.PathLike], invert: bool = False) -> list[Prediction]:
    """The run's predictions for image files; UserError names a file that holds no image.

    invert: swap black and white, in addition to what the run's config does.
    """
    prepared = [read_input(run, file, invert) for file in files]
    images = np.stack([image for image, _ in prepared])
    no_labels = np.zeros(len(images), np.int32)
    log_probabilities = trained.predictions(run, ArraySource(images, no_labels)).log_probabilities
    order = np.argsort(-log_probabilities, axis=-1, kind="stable")
    return [
        Prediction(str(file), tuple((run.info.class_names[i], float(np.exp(row[i]))) for i in ranks), note)
        for file, row, ranks, (_, note) in zip(files, log_probabilities, order, prepared, strict=True)
    ]


def read_input(
    run: Trained, file: str | os.PathLike, invert: bool
) -> tuple[UInt8[np.ndarray, "height width channels"], str]:
    """The image in a file as the run's dataset would hold it, and a note on steps that are not in the run's config."""
    data, (height, width, channels) = run.config.data, run.info.image_shape
    # config.data.channels is 0 for a dataset whose images are used as stored, grey or in colour.
    as_tested = dataclasses.replace(Preparation.from_config(data), channels=channels, invert=data.invert != invert)
    image, notes = decode.read(file, channels), []
    content = (height - 2 * data.pad, width - 2 * data.pad)
    if not as_tested.side and image.shape[:2] != content:
        notes.append(f"resized from {_size(image.shape)} to {_size(content)}")
        image = _fit(image, content)
    prepared = preparation.prepare_image(image, as_tested, name=str(file))
    if data.pad and _edge(prepared, data.pad) > WHITE / 2:
        notes.append("bright at its edges, where training images are black: perhaps --invert")
    return prepared, "; ".join(notes)


def _edge(image: UInt8[np.ndarray, "height width channels"], pad: int) -> float:
    """The median of the outermost pixels inside an image's padding."""
    inner = image[pad:-pad, pad:-pad]
    return float(np.median(np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _fit(image: UInt8[np.ndarray, "_ _ channels"], size: tuple[int, int]) -> UInt8[np.ndarray, "_ _ channels"]:
    """The image cut around its centre to the proportions of `size` (height, width) and resized to it."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[-1] == 1 else image)
    fitted = np.array(ImageOps.fit(picture, size[::-1], Image.Resampling.BILINEAR))
    return fitted.reshape(*size, image.shape[-1])


def as_text(predictions: Sequence[Prediction], top: int) -> list[str]:
    """Lines for a person: file, class, probability, then the `top` classes that follow."""
    width = max(len(prediction.file) for prediction in predictions)
    class_width = max(len(prediction.ranking[0][0]) for prediction in predictions)
    lines = []
    for prediction in predictions:
        (name, probability), *others = prediction.ranking
        line = f"{prediction.file:<{width}}  {name:<{class_width}}  {probability:6.1%}"
        if others[:top]:
            line += "  then " + ", ".join(f"{name} {probability:.1%}" for name, probability in others[:top])
        lines.append(line + (f"  ({prediction.note})" if prediction.note else ""))
    return lines


def as_json(predictions: Sequence[Prediction], top: int) -> list[str]:
    """Lines for a program: `file`, `class`, `probability`, `others` (the `top` classes that follow) and `note`."""
    lines = []
    for prediction in predictions:
        likeliest, *others = ({"class": name, "probability": chance} for name, chance in prediction.ranking)
        lines.append(
            json.dumps({"file": prediction.file, **likeliest, "others": others[:top], "note": prediction.note})
        )
    return lines


if __name__ == "__main__":
    launch.run(main)
