"""The preprocessing that a published network expects, as options of the `data` section.

It comes from the files beside the weights (Hugging Face's preprocessor_config.json, the config.json of timm's folders),
from the file itself if it is a known one, or else from its publisher's habit. A family's `weights.py` may have

    preprocessing(source, side, arrays, name) -> Options    the publisher's usual options, if they are not `usual`'s;
                                                            name: of the file
    FILES: dict[str, Options]       options of known files by the first eight digits of their SHA-256, with which
                                    PyTorch's hub names them
"""

import hashlib
import math
import pathlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from common import models
from common.data import pixel_statistics
from common.errors import UserError
from common.files import user_path
from common.pretrained import hugging_face

Options = dict[str, Any]

USUAL = "tests most of its networks"
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_TIMM = {"bilinear": "bilinear", "bicubic": "bicubic", "random": "bilinear"}


def scaled(mean: Sequence[float], std: Sequence[float]) -> Options:
    """Pixels from 0 to 1, minus the mean and divided by the deviation of each colour."""
    if set(mean) == set(std) == {0.5}:
        return {"normalize": "range", "pixel_range": (-1.0, 1.0), "mean": (), "std": ()}
    grey = [tuple(round(255 * float(value), 4) for value in values) for values in (mean, std)]
    return {"normalize": "channels", "mean": grey[0], "std": grey[1]}


IMAGENET = scaled((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIGNED = scaled((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # from -1 to 1


def cropped(side: int, share: float = 0.875) -> Options:
    """The centre square of `side` pixels, after the shorter side was resized to `side / share`."""
    return {"resize": math.floor(side / share), "crop": side}


def stretched(side: int) -> Options:
    """The whole image, resized to a square."""
    return {"resize": side, "crop": side, "stretch": True}


def find(
    path: pathlib.Path, weights: ModuleType, publisher: str, arrays: Mapping[str, np.ndarray], side: int
) -> tuple[Options, str]:
    """The options for a file, and their origin in words.

    side: of the network's images. Raises UserError for a description that cannot be read.
    """
    usual = {**IMAGENET, **cropped(side), "interpolation": "bilinear", "stretch": False}
    if hasattr(weights, "preprocessing"):
        usual |= weights.preprocessing(publisher, side, arrays, path.name)
    processor = (hugging_face.PROCESSOR, hugging_face.processor, _of_processor)
    for name, read, options in (processor, (hugging_face.CONFIG, hugging_face.timm_config, _of_timm)):
        if told := read(path):
            try:
                return usual | options(told, side), f"as {name} says"
            except (TypeError, ValueError, KeyError, ZeroDivisionError, OverflowError) as error:
                raise UserError(f"the preprocessing in {path}'s {name} is not read: {error!r}; use --config") from error
    known, file = getattr(weights, "FILES", {}), hugging_face.file_of(path)
    hashed = known and file.is_file() and file.suffix not in (".npz", ".safetensors")  # PyTorch's hub has no such files
    if hashed and (found := known.get(_digits(file))) is not None:
        return usual | found, "as this very file was tested"
    return usual, f"as {publisher} {USUAL}"


def compared(config: ConfigDict, arrays: Mapping[str, np.ndarray], side: int) -> str:
    """A sentence on the preprocessing in `config.data` and the one that the file of `config.init` expects.

    It is '' where nothing tells what the file expects. arrays: the file's. side: of the images that the network is fed.
    """
    path, weights = user_path(config.init.checkpoint), models.optional_module(config.model.family, "weights")
    if weights is None or not hasattr(weights, "sources") or config.init.source == "own":
        return ""
    ours = all(name.partition("/")[0] in ("params", "batch_stats") for name in arrays)
    known = weights.sources(arrays)
    if ours or not known:
        return ""
    source = config.init.source if config.init.source != "auto" else publisher(path, known)
    expected, told = find(path, weights, source, arrays, side)
    return _said(differences(config.data, expected), f"the file expects, {told}")


def of_run(data: ConfigDict, given: ConfigDict, folder: pathlib.Path) -> str:
    """A sentence on the preprocessing in a `data` section and that of the run in `folder`, whose config is given."""
    wanted = differences(data, given.data.to_dict())
    if pixel_statistics.needs_statistics(given) and not wanted and not data.statistics:
        wanted = [f"config.data.statistics={folder / pixel_statistics.FILE}"]
    return _said(wanted, "the run's images had")


def _said(wanted: Sequence[str], expected: str) -> str:
    if wanted:
        return f"OTHER PREPROCESSING than {expected}: {' '.join(wanted)}"
    return f"preprocessing as {expected}"


def publisher(path: pathlib.Path, known: Sequence[str]) -> str:
    """The publisher of a file whose names are those of one or more."""
    return "timm" if "timm" in known and hugging_face.timm_config(path) else known[0]


def differences(data: ConfigDict, expected: Mapping[str, Any]) -> list[str]:
    """The options to set so that a `data` section does what a file expects, such as 'config.data.resize=256'."""
    scale = ("pixel_range",) if expected["normalize"] == "range" else ("mean", "std")
    resized = data.resize and expected["resize"]
    names = ("normalize", *scale, *(("resize", "crop", "stretch", "interpolation") if resized else ()))
    fed = {**data, "crop": data.crop or data.resize}, {**expected, "crop": expected["crop"] or expected["resize"]}
    differ = [name for name in names if not _same(*(one[name] for one in fed))]
    return [f"config.data.{name}={expected[name]}" for name in differ if data[name] != expected[name]]


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, tuple | list):
        return len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=0.01)
    return ours == theirs


def _digits(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def _of_processor(told: Mapping[str, Any], side: int) -> Options:
    """The options of a Hugging Face image processor."""
    scale = float(told.get("rescale_factor", 1 / 255)) if told.get("do_rescale", True) else 1.0
    if not math.isclose(scale, 1 / 255, rel_tol=1e-3):
        raise ValueError(f"pixels are multiplied by {scale:g}, not by 1/255")
    size = told.get("size", side)
    shorter = isinstance(size, Mapping) and "shortest_edge" in size
    options: Options = {"interpolation": _named(_RESAMPLE, told["resample"])} if "resample" in told else {}
    length = _length(size)
    kind = str(told.get("image_processor_type") or told.get("feature_extractor_type"))
    if "crop_pct" in told or kind.startswith("ConvNext"):
        options |= cropped(length, told.get("crop_pct") or 0.875) if length < 384 else stretched(length)
    else:
        crop = _length(told.get("crop_size", length)) if told.get("do_center_crop") else length
        options |= {"resize": length, "crop": crop, "stretch": not shorter}
    if not told.get("do_normalize", True):
        return {**options, "normalize": "range", "pixel_range": (0.0, 1.0), "mean": (), "std": ()}
    return options | (scaled(told["image_mean"], told["image_std"]) if "image_mean" in told else {})


def _of_timm(told: Mapping[str, Any], side: int) -> Options:
    """The options of timm's `pretrained_cfg`."""
    options = cropped(int(told.get("input_size", (3, side, side))[-1]), told.get("crop_pct") or 0.875)
    options["stretch"] = told.get("crop_mode") == "squash"
    if "interpolation" in told:
        options["interpolation"] = _named(_TIMM, told["interpolation"])
    return options | (scaled(told["mean"], told["std"]) if "mean" in told else {})


def _length(size: Any) -> int:
    """The length of a square's sides, or of the shorter one."""
    if not isinstance(size, Mapping):
        return int(size)
    if "shortest_edge" in size:
        return int(size["shortest_edge"])
    if size["height"] != size["width"]:
        raise ValueError(f"images of {size['height']} x {size['width']} pixels are not square")
    return int(size["height"])


def _named(names: Mapping[Any, str], kind: Any) -> str:
    if kind not in names:
        raise ValueError(f"interpolation {kind!r} is not {' or '.join(map(repr, names))}")
    return names[kind]
