"""Folders as Hugging Face's transformers and timm save them: weights, and descriptions beside them.

A path may be the folder, or the file of weights in it.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from common.errors import UserError, listed
from common.pretrained import shards

_WHOLE = ("model.safetensors", "pytorch_model.bin")
# One of these files holds the weights, or says which files beside it do.
FOLDER_FILES = tuple(name + ending for name in _WHOLE for ending in ("", shards.ENDING))
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"


def is_folder(path: pathlib.Path) -> bool:
    """True for a folder as Hugging Face's transformers saves it."""
    return any((path / name).is_file() for name in FOLDER_FILES)


def file_of(path: pathlib.Path) -> pathlib.Path:
    """The file of arrays: the path itself, or the one in a Hugging Face folder."""
    return next((path / name for name in FOLDER_FILES if (path / name).is_file()), path)


def classes(path: pathlib.Path) -> tuple[str, ...]:
    """The names of a Hugging Face folder's classes in their order; none without a config.json that has them."""
    names = facts(path).get("id2label") or {}
    return tuple(str(names[key]) for key in sorted(names, key=int)) or _timms_classes(path)


def notes(path: pathlib.Path) -> list[str]:
    """Sentences about a Hugging Face folder's images and classes, from its config.json; none without one."""
    names, size = classes(path), facts(path).get("image_size")
    said = [f"config.json: images of {size} pixels a side"] if size else []
    return said + ([f"config.json: {len(names):,} classes, {listed(names)}"] if names else [])


def facts(path: pathlib.Path) -> dict[str, Any]:
    """The network in a Hugging Face folder's config.json, {} without one; path: the folder, or the weights in it."""
    told = _read(path, CONFIG)
    names = told.get("id2label") or {}
    if not isinstance(names, dict) or not all(key.isdecimal() for key in names):
        raise _unreadable(path, CONFIG)
    return told


def processor(path: pathlib.Path) -> dict[str, Any]:
    """The preprocessing in a Hugging Face folder's preprocessor_config.json, {} without one."""
    return _read(path, PROCESSOR)


def timm_config(path: pathlib.Path) -> dict[str, Any]:
    """The preprocessing in the config.json of a folder of timm's, {} without one. Older files have it at the top."""
    found = _read(path, CONFIG)
    told = found.get("pretrained_cfg", found if "architecture" in found else {})
    return told if isinstance(told, dict) else {}


def number(told: Mapping[str, Any], name: str, default: float) -> float:
    """A number in a description. Raises UserError for anything else."""
    value = told.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"config.json's {name} is {value!r}; expected a number")
    return value


def _timms_classes(path: pathlib.Path) -> tuple[str, ...]:
    told = timm_config(path)
    names = told.get("label_names") or told.get("labels") or _read(path, CONFIG).get("label_names") or ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _read(path: pathlib.Path, name: str) -> dict[str, Any]:
    """The content of a JSON file beside the weights of a Hugging Face folder, {} without one."""
    if path.name not in FOLDER_FILES and not is_folder(path):
        return {}
    file = (path.parent if path.name in FOLDER_FILES else path) / name
    if not file.is_file():
        return {}
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, name) from error
    if not isinstance(told, dict):
        raise _unreadable(path, name)
    return told


def _unreadable(path: pathlib.Path, name: str) -> UserError:
    return UserError(f"the {name} of {path} is not a description in JSON")
