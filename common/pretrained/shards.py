"""Files of weights in parts, with an index in JSON that names the part of each array, as transformers saves them.

The index lies beside its parts, model-00001-of-00002.safetensors and so on: {"weight_map": {array: part}}.
"""

import collections
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from common.errors import UserError, count_of, listed, missing_and_extra

ENDING = ".index.json"
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.[a-z]+$")


def is_part(path: pathlib.Path) -> bool:
    """True for a file whose name says that it is one of several parts."""
    found = _PART.search(path.name)
    return found is not None and int(found[2]) > 1


def read(index: pathlib.Path, read_part: Callable[[pathlib.Path], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of all parts, each part read once.

    Raises UserError for a part that is missing, before any is read. Raises ValueError unless they are exactly those
    that the index names.
    """
    named = _map(index)
    parts = _parts(named)
    if absent := [name for name in parts if not (index.parent / name).is_file()]:
        raise UserError(f"'{index}' names {count_of(len(parts), 'part')}, of which {listed(absent)} is missing")
    arrays: dict[str, np.ndarray] = {}
    for name, expected in parts.items():
        found = read_part(index.parent / name)
        if twice := sorted((found.keys() - expected) & named.keys()):
            raise ValueError(f"{listed(twice)} is in '{name}' and, by the index, in '{named[twice[0]]}'")
        missing, extra = sorted(expected - found.keys()), sorted(found.keys() - expected)
        if missing or extra:
            raise ValueError(f"its part '{name}' {missing_and_extra(missing, extra)}")
        arrays |= found
    return arrays


def _map(index: pathlib.Path) -> Mapping[str, str]:
    """The index: the part of each array.

    Raises ValueError for anything else, and for parts outside the index's folder.
    """
    told = json.loads(index.read_text(encoding="utf-8"), object_pairs_hook=_distinct)
    parts = told.get("weight_map") if isinstance(told, dict) else None
    if not isinstance(parts, dict) or not parts:
        raise ValueError("it has no 'weight_map' from arrays to parts")
    for name in parts.values():
        if not isinstance(name, str) or not name:
            raise ValueError(f"its 'weight_map' names {name!r} as a part; expected a file")
        if pathlib.PurePosixPath(name).name != name or pathlib.PureWindowsPath(name).name != name or name == "..":
            raise ValueError(f"its part {name!r} is not in the index's folder")
        if name.endswith(ENDING):
            raise ValueError(f"its part '{name}' is an index again")
    return parts


def _parts(named: Mapping[str, str]) -> dict[str, set[str]]:
    """The arrays in each part, in the order of the parts' names."""
    parts: dict[str, set[str]] = {name: set() for name in sorted(set(named.values()))}
    for array, name in named.items():
        parts[name].add(array)
    return parts


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a name that comes twice, of which Python would take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [name for name, count in collections.Counter(name for name, _ in pairs).items() if count > 1]
        raise ValueError(f"{listed(twice)} is in it twice")
    return found
