"""MNIST and Fashion-MNIST, 28x28 grey, in TFDS's form, from the four idx files that each is published as."""

import gzip
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from PIL import Image

from common.data.formats import originals

_PARTS = {"train": "train", "test": "t10k"}  # the first word of a file's name, by split
_FILES = [f"{part}-{content}-ubyte.gz" for part in _PARTS.values() for content in ("images-idx3", "labels-idx1")]


def read_idx(path: pathlib.Path) -> UInt8[np.ndarray, "..."]:
    """The array in a gzipped idx file of bytes: a magic number whose last byte counts the axes, lengths, values."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _examples(folder: pathlib.Path, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Examples with TFDS's keys, which decide their order."""
    images, labels = (read_idx(folder / f"{part}-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield i, {"image": Image.fromarray(image), "label": int(label)}


def _originals(digests: Sequence[str], *mirrors: str) -> tuple[originals.Files, ...]:
    """The four files, with their SHA-256 in the order of _FILES."""
    return (originals.published({name: f"sha256:{hex}" for name, hex in zip(_FILES, digests, strict=True)}, mirrors),)


class _Idx:
    """A builder that reads the four files."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "the four idx files"

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: _examples(pathlib.Path(dl_manager.manual_dir), part) for split, part in _PARTS.items()}


class Mnist(_Idx, tfds.image_classification.MNIST, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's MNIST."""

    ORIGINALS = _originals(
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://raw.githubusercontent.com/fgnt/mnist/master/",
    )


class FashionMnist(_Idx, tfds.image_classification.FashionMNIST, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's Fashion-MNIST."""

    ORIGINALS = _originals(
        (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    )
