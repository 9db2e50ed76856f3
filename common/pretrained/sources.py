"""The known publishers of weights, told by the names in a file, and their networks' conventions (`config.init.source`).

Names and shapes do not show everything: the place of a stride, a GELU's approximation. A family's `weights.py` knows
its publishers' choices and may have

    sources(arrays) -> names     the publishers whose names these arrays have
    mismatch(source, arrays, module) -> sentence    the difference of that publisher's network from ours, and the
                                                    variant or option that mends it; '' for none
"""

import json
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from flax import linen as nn

from common.errors import UserError, listed

FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")  # of a Hugging Face folder


def check(
    weights: ModuleType, arrays: Mapping[str, np.ndarray], module: nn.Module, source: str, path: pathlib.Path
) -> None:
    """UserError for a file that has not the names of `source`, or whose publisher's network differs from `module`.

    source: `config.init.source`. 'auto' goes by the names; 'own' is a file of the config's very network, whose
    conventions are not compared.
    """
    if source == "own" or not hasattr(weights, "sources"):
        return
    found = weights.sources(arrays)
    if source not in ("auto", *found):
        theirs = f"but those of {listed(found)}" if found else "nor those of any other publisher"
        raise UserError(f"{path} has not the names of config.init.source '{source}', {theirs}")
    candidates = found if source == "auto" else (source,)
    reasons = [weights.mismatch(name, arrays, module) for name in candidates]
    if reasons and all(reasons):
        raise UserError(f"{path}: {reasons[0]}; if it is a network of your own, set config.init.source=own")


def is_folder(path: pathlib.Path) -> bool:
    """True for a folder as Hugging Face's transformers saves it."""
    return any((path / name).is_file() for name in FOLDER_FILES)


def file_of(path: pathlib.Path) -> pathlib.Path:
    """The file of arrays: the path itself, or the one in a Hugging Face folder."""
    return next((path / name for name in FOLDER_FILES if (path / name).is_file()), path)


def folder_classes(path: pathlib.Path) -> tuple[str, ...]:
    """The names of a Hugging Face folder's classes in their order; none without a config.json that has them."""
    names = (_facts(path).get("id2label") or {}) if is_folder(path) else {}
    return tuple(str(names[key]) for key in sorted(names, key=int))


def folder_notes(path: pathlib.Path) -> list[str]:
    """Sentences about a Hugging Face folder's images and classes, from its config.json; none without one."""
    if not is_folder(path):
        return []
    names, size = folder_classes(path), _facts(path).get("image_size")
    said = [f"config.json: images of {size} pixels a side"] if size else []
    return said + ([f"config.json: {len(names):,} classes, {listed(names)}"] if names else [])


def _facts(path: pathlib.Path) -> dict[str, Any]:
    """The content of a Hugging Face folder's config.json, {} without one."""
    file = path / "config.json"
    if not file.is_file():
        return {}
    try:
        facts = json.loads(file.read_text())
        dict(facts, id2label={int(key): name for key, name in (facts.get("id2label") or {}).items()})
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file} is not a network's description in JSON") from error
    return facts
