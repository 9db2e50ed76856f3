"""The network, the preprocessing and the classes of a published file of weights, identified by its arrays.

A family's `weights.py` may have

    candidates(arrays, facts) -> list[Candidate]    the variants that these arrays may belong to; none for
                                                    another family's. facts: see `common.pretrained.sources`
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from common import config as config_lib
from common import models
from common.data import imagenet_names
from common.data.dataset_info import Info
from common.errors import UserError, listed
from common.pretrained import hugging_face, initial, preprocessing, sources

# The number of classes of ImageNet-21k (fall 2011), and the places of the two more that Google's networks have.
_FULL, _MISSING = 21_841, (9205, 15027)
NO_CLASS = "no class"  # of a network whose file has no head
_IMAGENET = "tfds:imagenet2012"
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Candidate(NamedTuple):
    """A variant with the fields in which the file's network differs from it, and the side of its images in pixels."""

    variant: str
    fields: Mapping[str, Any]
    side: int


class Identified(NamedTuple):
    """The config of a file's network and of its images, the facts of its classes, and sentences about both."""

    config: ConfigDict
    info: Info
    notes: list[str]


def identify(path: pathlib.Path, arrays: Mapping[str, np.ndarray], source: str = "auto") -> Identified:
    """The network of a published file. Raises UserError if no variant, or more than one, has these arrays.

    source: `config.init.source`; 'auto' goes by the names. The network of a file without a head has an untrained one of
    one class, `NO_CLASS`, and `config.init.new_head` says so.
    """
    reasons: list[UserError] = []
    found = [one for family in models.families() for one in _of_family(path, family, arrays, source, reasons)]
    if not found and reasons and source != "auto":  # the user knows the publisher, and should know what differs
        raise reasons[-1]
    if not found:
        raise UserError(
            f"{path}: no published network of this repository has these arrays, as {listed(sorted(arrays)[:3])}; name "
            "the network with --config, and --config.init.source=own if it is your own"
            + (f" (nearest: {reasons[-1]})" if reasons else "")
        )
    if len(found) > 1:
        names = listed([f"{family} {candidate.variant}" for family, candidate, _, _ in found])
        raise UserError(f"{path} may be {names}, which its arrays do not tell apart; name the network with --config")
    family, candidate, publisher, classes = found[0]
    config = config_lib.base(models.section(family, candidate.variant, **candidate.fields))
    config.init.checkpoint, config.init.source, config.init.new_head = str(path), publisher, not classes
    weights: Any = models.optional_module(family, "weights")
    options, told = preprocessing.find(path, weights, publisher, arrays, candidate.side)
    config.data.update(options)
    config.data.channels = 3
    config.optimizer.name = "sgd"  # whose state takes no memory
    names, origin = class_names(path, classes, publisher)
    config.data.source = _dataset(names)
    if config.data.source == _IMAGENET:
        config.data.test_split = "validation"
    # The sizes of a dataset that nobody knows: no test images, and one for training, so that an epoch has a length.
    info = Info(publisher, len(names), names, (config.data.crop, config.data.crop, 3), train_size=1, test_size=0)
    others = (
        [name for name in weights.sources(arrays) if name != publisher] if told.endswith(preprocessing.USUAL) else []
    )
    notes = [
        f"{family} {candidate.variant} of {publisher}",
        f"images: {_in_words(config.data)}, {told}"
        + "".join(f"; --source={name} if it is {name}'s" for name in others),
        f"classes: {origin}",
    ]
    return Identified(config, info, notes)


def _of_family(
    path: pathlib.Path, family: str, arrays: Mapping[str, np.ndarray], source: str, reasons: list[UserError]
) -> list[tuple[str, Candidate, str, int]]:
    """The candidates of a family that have exactly these arrays: family, candidate, publisher, number of classes.

    That number is 0 for a file without a head. reasons: the errors of candidates that do not fit are added to it.
    """
    weights = models.optional_module(family, "weights")
    if weights is None or not hasattr(weights, "candidates"):
        return []
    classes = next((arrays[name].size for name in weights.HEAD_BIAS if name in arrays), 0)
    found = []
    facts = hugging_face.facts(path)
    for candidate in weights.candidates(arrays, facts):
        images = SimpleNamespace(
            num_classes=classes or 1, class_names=(), image_shape=(candidate.side, candidate.side, 3)
        )
        section = models.section(family, candidate.variant, **candidate.fields)
        classifier = models.make_classifier(section, images)
        config = config_lib.base(section)
        config.init.checkpoint, config.init.source, config.init.new_head = str(path), source, not classes
        try:
            sources.check(weights, arrays, classifier.module, source, path)  # before the network is traced
            given = initial.given_weights(config, classifier, arrays)
            initial.initial_arrays(given, classifier, config)
        except UserError as error:
            reasons.append(error)
            continue
        publisher = source if source not in ("auto", "own") else preprocessing.publisher(path, weights.sources(arrays))
        found.append((family, candidate, publisher, classes))
    return found


def class_names(path: pathlib.Path, count: int, publisher: str) -> tuple[tuple[str, ...], str]:
    """The names of a file's classes, and their origin in words; numbers where nothing tells them.

    count: 0 for a file without a head, which has `NO_CLASS`. ImageNet's are those of TensorFlow Datasets, in the order
    that all publishers share.
    """
    if not count:
        return (NO_CLASS,), "none, the file has NO HEAD: predict --embeddings works, a head comes by fine-tuning"
    if len(given := hugging_face.classes(path)) == count:
        return given, f"{count:,}, named in config.json"
    if count == 10 and publisher == "cifar":
        return _CIFAR10, "10, CIFAR-10's"
    if count == 1000:
        return imagenet_names.words(), "1,000, ImageNet's"
    if count in (len(_MISSING) + _FULL, _FULL):
        lines = pathlib.Path(__file__).with_name("imagenet21k.txt").read_text(encoding="utf-8").splitlines()
        full = [line for line in lines if not line.startswith("#")]
        missing = _MISSING if count == _FULL else ()
        return tuple(name for place, name in enumerate(full) if place not in missing), f"{count:,}, ImageNet-21k's"
    digits = len(str(count - 1))
    names = tuple(f"class {number:0{digits}}" for number in range(count))
    return names, f"NO CLASS NAMES ARE KNOWN for {count:,} classes: they are numbers"


def _dataset(class_names: Sequence[str]) -> str:
    """The `config.data.source` that has these classes, which as many others do not tell; a folder to name if none."""
    if tuple(class_names) == _CIFAR10:
        return "tfds:cifar10"
    return _IMAGENET if imagenet_names.spelling(class_names) else "folder:FOLDER"


def _in_words(data: ConfigDict) -> str:
    side = "sides" if data.stretch else "a shorter side"
    size = f"{data.crop} x {data.crop} pixels, from {side} of {data.resize}, {data.interpolation}"
    if data.normalize == "range":
        return f"{size}, from {data.pixel_range[0]:g} to {data.pixel_range[1]:g}"
    mean, std = (", ".join(f"{value / 255:.3f}" for value in values) for values in (data.mean, data.std))
    return f"{size}, minus ({mean}) and divided by ({std}) as pixels from 0 to 1"


def grid_side(tokens: int, patch: int) -> int:
    """The side in pixels of square images that have this many tokens, with or without a class token."""
    return math.isqrt(tokens) * patch
