"""The 8x8 handwritten digits that come with scikit-learn: UCI's test set of 1,797."""

import dataclasses
import importlib.util
import pathlib

import numpy as np
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict

from common.data.dataset_info import Info, fingerprint
from common.data.sources import ImageSource, Record
from common.data.splits import Dataset, fixed_order, held_out_note, held_out_share, hold_out, make_dataset
from common.errors import UserError


@dataclasses.dataclass(frozen=True)
class _Digits:
    """Images in memory, not yet prepared."""

    images: UInt8[np.ndarray, "examples height width channels"]
    labels: Int[np.ndarray, " examples"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Record:
        return Record(self.images[index], int(self.labels[index]), f"digit {index}")


def open_dataset(name: str, config: ConfigDict, known: Info | None = None) -> Dataset[ImageSource]:
    """The digits in a fixed order, the first of each class for testing.

    name, known: as for other sources; there is one such dataset, and the order of its classes is fixed.
    """
    if (config.train_split, config.test_split) != ("train", "test"):
        raise UserError("config.data.source 'digits' has no splits to choose; config.data.holdout sizes its test set")
    pixels, target = _read_digits()
    order = fixed_order(map(str, range(len(target))))
    images = np.round(pixels[order].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = target[order]
    class_names = tuple("0123456789")
    train, test = hold_out(labels, class_names, config.holdout)
    notes, validation = [held_out_note(config.holdout)], None
    if share := held_out_share(config):
        rest, held_out = hold_out(labels[train], class_names, share, "validation")
        train, validation = train[rest], train[held_out]
        notes.append(held_out_note(share, "validated"))
    parts = (("train", train), ("test", test), ("validation", () if validation is None else validation))
    kept = fingerprint(f"{split} {order[i]} {labels[i]}" for split, part in parts for i in part)
    facts = Info("digits", len(class_names), class_names, images.shape[1:], 0, 0, fingerprint=kept)
    training, testing = (_Digits(images[part], labels[part]) for part in (train, test))
    validating = None if validation is None else _Digits(images[validation], labels[validation])
    return make_dataset(training, testing, facts, config, validating, notes, held_out=True)


def _read_digits() -> tuple[Float[np.ndarray, "1797 64"], Int[np.ndarray, " 1797"]]:
    """Pixels, 0 to 16, and labels, as from `sklearn.datasets.load_digits`.

    The file is read directly if it is found, because importing scikit-learn takes longer than the rest of a run's
    start.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in package.submodule_search_locations or () if package else ():
        file = pathlib.Path(folder, "datasets", "data", "digits.csv.gz")
        if file.exists():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.data, digits.target
