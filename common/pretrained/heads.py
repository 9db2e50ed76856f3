"""The heads of networks, the arrays that depend on the classes: they are compared, matched by name or replaced."""

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, PyTree
from ml_collections import ConfigDict

from common.errors import UserError, listed
from common.models import Classifier
from common.pretrained.named import Flat, Given, flatten, is_untrained, shapes, unflatten, wrong_shape


class Matched(NamedTuple):
    """A head's array after its classes were matched by name.

    values: the whole array. known: the classes along `axis` that the given run has; the others start untrained.
    """

    values: np.ndarray
    known: Bool[np.ndarray, " classes"]
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.values.shape


def arrays(classifier: Classifier) -> dict[str, int]:
    """Names of the arrays whose shapes depend on the number of classes (the head, or heads), with the classes' axis."""
    more = flatten(shapes(classifier.module.clone(num_classes=classifier.num_classes + 1), classifier))
    axes = {}
    for name, array in flatten(shapes(classifier.module, classifier)).items():
        if (differs := np.not_equal(array.shape, more[name].shape)).any():
            axes[name] = int(differs.argmax())
    return axes


def match(given: Given, class_names: Sequence[str], head: Mapping[str, int]) -> Int[np.ndarray, " classes"]:
    """The place in the given head of each of the dataset's classes, by name.

    It is -1 for a name that the head does not know, and for one that several of its classes have, as 'crane' in
    ImageNet. Raises UserError if the weights name no classes, the network has no head, or no name is shared.
    """
    if not given.class_names:
        raise UserError(
            f"config.init.match_classes is True, but {given.origin} is a file, which names no classes; give a run's "
            "workdir, or set config.init.new_head=True"
        )
    if not head:
        raise UserError("config.init.match_classes is True, but no array of this network depends on the classes")
    counts = collections.Counter(given.class_names)
    theirs = {name: place for place, name in enumerate(given.class_names) if counts[name] == 1}
    places = np.array([theirs.get(name, -1) for name in class_names], np.int64)
    if not (places >= 0).any():
        raise UserError(
            f"{given.origin} knows none of the dataset's classes: its own are {listed(given.class_names)}, and the "
            f"dataset's {listed(class_names)}; set config.init.new_head=True to start with a new head"
        )
    return places


def with_classes(given: Given, places: Int[np.ndarray, " classes"], classifier: Classifier, ours: Flat) -> PyTree:
    """The given variables with the classes of `places` in every head, zeros for those that are not known.

    ours: the network's own shapes, which heads that start untrained have.
    """
    flat = flatten(given.variables)
    for name, axis in arrays(given.classifier or classifier).items():
        if is_untrained(flat[name]):
            flat[name] = ours[name]
            continue
        taken = np.moveaxis(np.take(flat[name], np.maximum(places, 0), axis), axis, -1)
        flat[name] = np.moveaxis(np.where(places >= 0, taken, 0).astype(taken.dtype), -1, axis)
    return unflatten(flat)


def check_axes(given: Given, like: PyTree, head: Mapping[str, int]) -> None:
    """Raises UserError for a head that is no head, such as a single number, of a damaged or a foreign file."""
    theirs, ours = flatten(given.variables), flatten(like)
    for name in head:
        if name in theirs and len(theirs[name].shape) != len(ours[name].shape):
            raise UserError(wrong_shape(given.origin, name, theirs[name], ours[name]))


def check_classes(given: Given, like: PyTree, head: Mapping[str, int]) -> None:
    """Raises UserError when the head is for another number of classes."""
    theirs, ours = flatten(given.variables), flatten(like)
    for name, axis in head.items():
        if name in theirs and theirs[name].shape[axis] != ours[name].shape[axis]:
            raise UserError(
                f"{given.origin} tells {theirs[name].shape[axis]:,} classes apart and the dataset has "
                f"{ours[name].shape[axis]:,}: {_advice(given)}"
            )


def check_names(given: Given, class_names: Sequence[str]) -> None:
    """Raises UserError when a run's head tells as many classes apart, but others or in another order.

    A file may spell its classes in another way than the dataset, so only names that both have are compared.
    """
    pairs = zip(given.class_names, class_names, strict=False)
    different = [(theirs, ours) for theirs, ours in pairs if theirs != ours]
    if given.classifier is None:
        counts = collections.Counter(given.class_names)
        shared = {name for name in class_names if counts[name] == 1}
        different = [pair for pair in different if shared.intersection(pair)]
    if different and len(given.class_names) == len(class_names):
        theirs, ours = different[0]
        raise UserError(
            f"{given.origin} was trained on other classes: '{theirs}' is '{ours}' in the dataset "
            f"({len(different)} of {len(class_names)} differ); {_advice(given)}"
        )


def _advice(given: Given) -> str:
    """The ways to start from a network with other classes; most files do not name theirs."""
    new_head = "config.init.new_head=True to start with a new head"
    if not given.class_names:
        return f"set {new_head}"
    return f"set config.init.match_classes=True to keep the classes of the same name, or {new_head}"


def about_matched(given: Given, class_names: Sequence[str], places: Int[np.ndarray, " classes"]) -> str:
    """A sentence about the head, whose classes have come by name."""
    untrained = [name for name, place in zip(class_names, places, strict=True) if place < 0]
    unused = len(given.class_names) - (places >= 0).sum()
    said = f"HEAD BY NAME: {len(places) - len(untrained):,} of {len(places):,} classes have come with their weights"
    said += f"; untrained: {listed(untrained)}" if untrained else ""
    return said + (f"; {unused:,} of the given classes are DROPPED" if unused else "")


def about_new(given: Given, like: PyTree, head: Mapping[str, int]) -> str:
    """A sentence about the head, which starts untrained."""
    if not head:
        raise UserError("config.init.new_head is True, but no array of this network depends on the number of classes")
    theirs, ours = flatten(given.variables), flatten(like)
    classes = [f"{theirs[name].shape[axis]:,}" for name, axis in head.items() if name in theirs]
    count = next(ours[name].shape[axis] for name, axis in head.items())
    names = ", ".join(sorted({name.removeprefix("params/").rpartition("/")[0] for name in head}))
    dropped = f"; the head for {classes[0]} classes is DROPPED" if classes else ""
    return f"NEW HEAD: '{names}' for {count:,} classes starts untrained{dropped}"


def check_trained(config: ConfigDict, step: int, folder: pathlib.Path) -> None:
    """Raises UserError for a run whose head is untrained, since its classes mean nothing yet."""
    if config.init.checkpoint and config.init.new_head and not step:
        raise UserError(
            f"the head of {folder} is untrained: only predict --embeddings=FILE.npz works; train a head with "
            f"configs/finetune.py and --config.init.checkpoint={config.init.checkpoint}"
        )
