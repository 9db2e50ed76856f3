"""Parquet files in the form of Hugging Face's image datasets: a column of encoded images and one of labels.

An image is a struct of `bytes` and `path`, or plain bytes. A label is a number, whose name the ClassLabel in the
schema's metadata gives, or the name itself. Files are read by row group. Those of a dataset of up to 4 GiB all stay in
memory once read; of a larger one only the latest few do.
"""

import bisect
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from ml_collections import ConfigDict

from common.data.dataset_info import Info
from common.data.formats import shards
from common.data.formats.shards import Shards
from common.data.sources import ARRAYS_BYTES, ImageSource
from common.data.splits import Dataset
from common.errors import UserError, listed

_IMAGES = ("image", "img")  # names of the columns, the first that exists
_LABELS = ("label", "labels", "fine_label", "class", "target")
_LATEST = 16  # row groups of a large dataset that stay in memory


class Group(NamedTuple):
    """A row group of a file, and the index of its first image among all."""

    file: pathlib.Path
    number: int
    start: int


@dataclasses.dataclass(frozen=True)
class ParquetImages:
    """Images in a column of Parquet files."""

    root: pathlib.Path
    groups: tuple[Group, ...]
    column: str
    size: int  # images
    kept: int  # row groups

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[bytes | pathlib.Path, str]:
        place = bisect.bisect_right(self._starts, index) - 1
        group = self.groups[place]
        row = index - group.start
        stored = self._read(place)[row].as_py()
        content, path = (stored.get("bytes"), stored.get("path")) if isinstance(stored, dict) else (stored, None)
        name = f"{group.file}, image {row} of row group {group.number}{f' ({path})' if path else ''}"
        if content is None and path:
            return self.root / path, name
        return content or b"", name

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # not the row groups read

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [group.start for group in self.groups]

    @functools.cached_property
    def _read(self) -> Callable[[int], pa.ChunkedArray]:
        """Reads a row group's images, unless they are still in memory."""
        return functools.lru_cache(self.kept)(self._column)

    def _column(self, place: int) -> pa.ChunkedArray:
        group = self.groups[place]
        try:
            return pq.ParquetFile(group.file).read_row_group(group.number, columns=[self.column]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"'{group.file}' is missing or damaged: {error}") from error


def open_dataset(name: str, config: ConfigDict, known: Info | None = None) -> Dataset[ImageSource]:
    """The images in the Parquet files below the folder `name`; see `shards.open_dataset`."""
    return shards.open_dataset(name, config, known, ".parquet", read)


def read(root: pathlib.Path, files: Sequence[pathlib.Path]) -> Shards:
    """The images of Parquet files and their labels.

    Raises a UserError that names a file that is damaged, has other columns than the first, or lacks those for images or
    labels.
    """
    groups: list[Group] = []
    keys: list[str] = []
    labels: list[str] = []
    first, class_names, stored = None, None, 0
    for path in files:
        try:
            file = pq.ParquetFile(path)
            schema = file.schema_arrow
            first = first or schema
            if not schema.equals(first):
                raise UserError(f"'{path}' has other columns than '{files[0]}': are they of one dataset?")
            image, label = (_column(path, schema, *wanted) for wanted in (("Image", _IMAGES), ("ClassLabel", _LABELS)))
            column = file.read(columns=[label]).column(0).to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:  # the last of Hugging Face's metadata
            raise UserError(f"'{path}' is not a sound Parquet file: {error}") from error
        names = _features(schema).get(label, {}).get("names")  # each file has its own numbers
        class_names = class_names or names
        start = len(keys)
        for number in range(file.num_row_groups):
            facts = file.metadata.row_group(number)
            groups.append(Group(path, number, start))
            start, stored = start + facts.num_rows, stored + facts.total_byte_size
        within = path.relative_to(root).as_posix()
        keys += [f"{within}/{row}" for row in range(len(column))]
        labels += [_class(value, names, f"{path}, row {row}") for row, value in enumerate(column)]
    kept = len(groups) if stored <= ARRAYS_BYTES else _LATEST
    images = ParquetImages(root, tuple(groups), image, len(keys), kept)
    return Shards(images, keys, labels, tuple(class_names) if class_names else None)


def _column(path: pathlib.Path, schema: pa.Schema, kind: str, usual: Sequence[str]) -> str:
    """The only column of this kind among Hugging Face's features, else the first column with a usual name."""
    of_kind = [name for name, feature in _features(schema).items() if feature.get("_type") == kind]
    if len(of_kind) == 1:
        return of_kind[0]
    for name in usual:
        if name in schema.names:
            return name
    raise UserError(f"'{path}' has the columns {listed(schema.names, 10)}; expected {listed(usual, 10)} among them")


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Hugging Face's features by column, from the schema's metadata; {} if there are none."""
    stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    for part in ("info", "features"):
        stored = stored.get(part) if isinstance(stored, dict) else None
    features = stored if isinstance(stored, dict) else {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _class(value: object, names: Sequence[str] | None, where: str) -> str:
    """The name of a label's class."""
    if isinstance(value, int) and (value < 0 or (names and value >= len(names))):
        expected = f"0..{len(names) - 1}" if names else "0 or more"
        raise UserError(
            f"'{where}' has label {value}; expected {expected}: is this split labelled? config.data.test_split and "
            "config.data.validation name others"
        )
    if names and isinstance(value, int):
        return names[value]
    if value is None or not isinstance(value, int | str):
        raise UserError(f"'{where}' has label {value!r}; expected a number or a name")
    return str(value)
