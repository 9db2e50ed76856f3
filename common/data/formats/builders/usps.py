"""The US Postal Service's zip-code digits, 16x16 grey, in the normalised form that is public.

Two text files, 7,291 digits for training and 2,007 for testing, have one digit a line: its label, then its 256 grey
values in [-1, 1] row by row, background -1 and ink 1. They are public as zip.train.gz and zip.test.gz (*The Elements of
Statistical Learning*) and, in LIBSVM's form with labels from 1, as usps.bz2 and usps.t.bz2. They are the data of LeCun
et al. 1989, or close to it: the public files are described as deslanted, which the paper does not mention.
"""

import gzip
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32, Int32

from common.data.formats import originals
from common.errors import UserError, count_of

SIDE = 16
_COLUMNS = 1 + SIDE * SIDE


def read_digits(
    path: str | pathlib.Path,
) -> tuple[Float32[np.ndarray, "examples 16 16 1"], Int32[np.ndarray, " examples"]]:
    """Images in [-1, 1] and labels 0..9 of zip.train.gz or zip.test.gz.

    Raises UserError for a file that is missing, cut short or in another format, naming the file and the line.
    """
    path = pathlib.Path(path)
    try:
        with gzip.open(path, "rt", encoding="ascii") as lines:
            rows = [_parse_line(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    except FileNotFoundError as error:
        raise UserError(f"no file '{path}'") from error
    except EOFError as error:
        raise UserError(f"'{path}' is cut short: the gzip file ends too early") from error
    except (gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not a gzipped text file: {error}") from error
    if not rows:
        raise UserError(f"'{path}' has no digits; expected one a line")
    table = np.stack(rows)
    return table[:, 1:].reshape(-1, SIDE, SIDE, 1), table[:, 0].astype(np.int32)


def read_libsvm(
    path: str | pathlib.Path,
) -> tuple[Float32[np.ndarray, "examples 16 16 1"], Int32[np.ndarray, " examples"]]:
    """Images in [-1, 1] and labels 0..9 of usps.bz2 or usps.t.bz2, whose labels are 1..10.

    Raises UserError for a file that is missing, cut short or in another format.
    """
    from sklearn.datasets import load_svmlight_file  # slow to import

    try:
        values, labels = load_svmlight_file(str(path), n_features=SIDE * SIDE, zero_based=False)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"'{path}' is not a LIBSVM file of {SIDE * SIDE} values a line: {error}") from error
    images = values.toarray().astype(np.float32)
    if not (np.isin(labels, range(1, 11)).all() and (np.abs(images) <= 1).all()):
        raise UserError(f"'{path}' has other labels than 1..10 or values outside [-1, 1]")
    return images.reshape(-1, SIDE, SIDE, 1), labels.astype(np.int32) - 1


def _parse_line(line: str, where: str) -> Float32[np.ndarray, " columns"]:
    """Label and pixels of one line as float32."""
    fields = line.split()
    if len(fields) != _COLUMNS:
        expected = f"{_COLUMNS} (a label and {_COLUMNS - 1} values)"
        raise UserError(f"{where}: got {count_of(len(fields), 'column')}, expected {expected}")
    try:
        values = np.array(fields, np.float32)
    except ValueError as error:
        raise UserError(f"{where}: expected numbers ({error})") from error
    if values[0] not in range(10):
        raise UserError(f"{where}: label {fields[0]}, expected a digit 0..9")
    outside = np.flatnonzero(~(np.abs(values[1:]) <= 1))  # NaN counts as outside
    if len(outside):
        raise UserError(f"{where}: value {fields[1 + outside[0]]}, expected values in [-1, 1]")
    return values


_LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/"
_READERS = {".gz": read_digits, ".bz2": read_libsvm}


class Usps(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """The USPS digits."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "the two files"
    # The training set's file comes first. No checksum of the gzip files is published.
    ORIGINALS = (
        originals.published(
            {"usps.bz2": "md5:ec16c51db3855ca6c91edd34d0e9b197", "usps.t.bz2": "md5:8ea070ee2aca1ac39742fdd1ef5ed118"},
            (_LIBSVM,),
        ),
        originals.published({"zip.train.gz": "", "zip.test.gz": ""}),
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten zip-code digits scanned by the US Postal Service, size-normalised to 16x16.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(SIDE, SIDE, 1), dtype=np.float32),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = pathlib.Path(dl_manager.manual_dir)
        paths = [folder / file.name for file in originals.find(folder, self.ORIGINALS)]
        # Both files are read before anything is written, so that a bad test set is found at once.
        digits = {split: _READERS[path.suffix](path) for split, path in zip(("train", "test"), paths, strict=True)}
        return {split: self._generate_examples(*arrays) for split, arrays in digits.items()}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": image, "label": int(label)}
