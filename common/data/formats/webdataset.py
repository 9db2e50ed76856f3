"""WebDataset shards: tar files with an image KEY.jpg (or .png, ...) and a label KEY.cls or KEY.json for each example.

The tar files' headers are read once, at the start; then each image is read directly from its place. If the labels are
numbers, `classnames.txt` in the folder gives the names of the classes, one a line.
"""

import dataclasses
import json
import math
import pathlib
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from ml_collections import ConfigDict
from PIL import Image

from common.data.dataset_info import Info
from common.data.formats import shards
from common.data.formats.shards import Shards
from common.data.sources import ImageSource
from common.data.splits import Dataset
from common.errors import UserError, listed


class Place(NamedTuple):
    """The place of an image: `size` bytes of a shard's file, from `start` on."""

    shard: int
    start: int
    size: int
    name: str


@dataclasses.dataclass(frozen=True)
class TarImages:
    """Images in tar files."""

    files: tuple[pathlib.Path, ...]
    places: tuple[Place, ...]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[bytes, str]:
        place = self.places[index]
        path = self.files[place.shard]
        try:
            with open(path, "rb") as file:
                file.seek(place.start)
                return file.read(place.size), f"{path}/{place.name}"
        except OSError as error:
            raise UserError(f"'{path}' cannot be read: {error.strerror}") from error


def open_dataset(name: str, config: ConfigDict, known: Info | None = None) -> Dataset[ImageSource]:
    """The images in the tar files below the folder `name`; see `shards.open_dataset`."""
    return shards.open_dataset(name, config, known, ".tar", read)


def read(root: pathlib.Path, files: Sequence[pathlib.Path]) -> Shards:
    """The images of tar files and their labels.

    Raises a UserError that names a damaged file, or an example that lacks its image or its label.
    """
    names = _class_names(root)
    places, keys, labels = [], [], []
    for shard, path in enumerate(files):
        for key, image, label in _examples(path):
            if image is None or label is None:
                lacks = "label (KEY.cls, or 'label' in KEY.json)" if label is None else "image"
                raise UserError(f"'{key}' in '{path}' has no {lacks}")
            if names and not (label.isdecimal() and int(label) < len(names)):
                raise UserError(f"'{key}' in '{path}' has label '{label}'; expected 0..{len(names) - 1}")
            places.append(Place(shard, image.offset_data, image.size, image.name))
            keys.append(f"{path.relative_to(root).as_posix()}/{key}")
            labels.append(names[int(label)] if names else label)
    return Shards(TarImages(tuple(files), tuple(places)), keys, labels, names)


def _class_names(root: pathlib.Path) -> tuple[str, ...] | None:
    path = root / "classnames.txt"
    if not path.is_file():
        return None
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' cannot be read: {error}") from error


def _examples(path: pathlib.Path) -> Iterator[tuple[str, tarfile.TarInfo | None, str | None]]:
    """Key, image and label of each example: neighbouring files whose names are the same up to the first dot."""
    suffixes = Image.registered_extensions()
    try:
        with tarfile.open(path, "r:") as archive, open(path, "rb") as file:
            key, image, label, end = "", None, None, 0
            for member in archive:
                end = member.offset_data + math.ceil(member.size / tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                suffix = suffix.lower()
                if not member.isfile() or not stem:  # folders, and the hidden files that macOS leaves
                    continue
                if key and key != f"{folder}/{stem}":
                    yield key.lstrip("/"), image, label
                    image, label = None, None
                key = f"{folder}/{stem}"
                if f".{suffix}" in suffixes:
                    if image is not None:
                        both = listed([image.name, member.name])
                        raise UserError(f"'{key.lstrip('/')}' in '{path}' has two images: {both}")
                    image = member
                elif suffix in ("cls", "json"):
                    found = _label(file, member)
                    label = label if found is None else found
            if key:
                yield key.lstrip("/"), image, label
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:  # tarfile does not check this mark
                raise ValueError("it has no end mark, so it may have been cut short")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"'{path}' is not a sound tar file: {error}") from error


def _label(file: IO[bytes], member: tarfile.TarInfo) -> str | None:
    """The label in a .cls or .json file, a number or a name; None if it has none."""
    file.seek(member.offset_data)
    text = file.read(member.size).decode()
    if member.name.lower().endswith(".cls"):
        return text.strip() or None
    facts = json.loads(text)
    label = facts.get("label") if isinstance(facts, dict) else None
    return str(label).strip() or None if isinstance(label, int | str) else None
