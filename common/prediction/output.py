"""Predictions as text for people, and as JSON or CSV for programs."""

import csv
import dataclasses
import io
import json
import unicodedata
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from common.prediction.images import Prepared

# Names of files and folders may hold line breaks and codes that a terminal obeys.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The classes of one image.

    ranking: (class name, probability) of every class, the likeliest first. note: a remark on what was done to the image
    but not to training images, or ''.
    """

    file: str
    ranking: tuple[tuple[str, float], ...]
    note: str = ""


def rank_predictions(
    images: Sequence[Prepared], log_probabilities: Float[np.ndarray, "images classes"], class_names: Sequence[str]
) -> list[Prediction]:
    """The predictions for some images; the ranking includes classes whose probability is too small for a float."""
    order = np.argsort(-log_probabilities, axis=-1, kind="stable")
    return [
        Prediction(image.file.path, tuple((class_names[i], float(np.exp(row[i]))) for i in ranks), image.note)
        for image, row, ranks in zip(images, log_probabilities, order, strict=True)
    ]


def as_text(predictions: Sequence[Prediction], top: int) -> list[str]:
    """Lines for a person: file, class, probability, then the `top` classes that follow; control characters as \\x0a."""
    files = [prediction.file.translate(_CONTROL) for prediction in predictions]
    rankings = [
        [(name.translate(_CONTROL), probability) for name, probability in prediction.ranking[: top + 1]]
        for prediction in predictions
    ]
    width = max(map(_columns, files))
    class_width = max(_columns(ranking[0][0]) for ranking in rankings)
    lines = []
    for file, ranking, prediction in zip(files, rankings, predictions, strict=True):
        (name, probability), *others = ranking
        line = f"{_padded(file, width)}  {_padded(name, class_width)}  {probability:6.1%}"
        if others:
            line += "  then " + ", ".join(f"{name} {probability:.1%}" for name, probability in others)
        lines.append(line + (f"  ({prediction.note})" if prediction.note else ""))
    return lines


def _padded(text: str, columns: int) -> str:
    return text + " " * (columns - _columns(text))


def _columns(text: str) -> int:
    """The columns that a text takes in a terminal: two for a wide character, none for an accent on the one before."""
    wide = sum(unicodedata.east_asian_width(character) in ("W", "F") for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def as_json(predictions: Sequence[Prediction], top: int) -> list[str]:
    """Lines for a program: `file`, `class`, `probability`, `others` (the `top` classes that follow) and `note`."""
    lines = []
    for prediction in predictions:
        likeliest, *others = ({"class": name, "probability": chance} for name, chance in prediction.ranking)
        lines.append(
            json.dumps({"file": prediction.file, **likeliest, "others": others[:top], "note": prediction.note})
        )
    return lines


def csv_header(top: int) -> str:
    """The first line of a CSV table: file, class, probability, class_2, probability_2, ..., note."""
    following = [f"{column}_{rank}" for rank in range(2, top + 2) for column in ("class", "probability")]
    return _csv_line(["file", "class", "probability", *following, "note"])


def as_csv(predictions: Sequence[Prediction], top: int) -> list[str]:
    """Lines of a CSV table (RFC 4180) under `csv_header`, for a run with more than `top` classes."""
    lines = []
    for prediction in predictions:
        cells = [cell for pair in prediction.ranking[: top + 1] for cell in pair]
        lines.append(_csv_line([prediction.file, *cells, prediction.note]))
    return lines


def _csv_line(cells: Sequence[object]) -> str:
    """A line that ends in a carriage return; printing adds the line feed."""
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().removesuffix("\n")
