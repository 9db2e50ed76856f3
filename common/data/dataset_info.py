"""The facts about a dataset, and how those of a run's dataset differ from today's."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from common.errors import UserError, count_of, listed


@dataclasses.dataclass(frozen=True)
class Info:
    """Facts about a dataset.

    image_shape: (height, width, channels) of the network's input, after channels, resize, crop and pad.
    train_size, test_size, validation_size: numbers of examples, the first after `limit`.
    fingerprint: a hash of the names and labels of all examples (of their numbers, for a TFDS dataset).
    float_images: whether stored pixels are floats, on the dataset's own scale.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_size: int
    test_size: int
    validation_size: int = 0
    fingerprint: str = ""
    float_images: bool = False


class NotPreparedError(UserError):
    """The error for a known dataset that is not prepared on this machine; `info` has the facts known so far."""

    def __init__(self, message: str, info: Info):
        super().__init__(message)
        self.info = info


def describe(info: Info) -> str:
    """A line on the images of a dataset."""
    validation = f", {info.validation_size:,} validation" if info.validation_size else ""
    shape = "x".join(str(length) for length in info.image_shape)
    return (
        f"{info.name}: {info.train_size:,} training{validation} and {count_of(info.test_size, 'test image')} "
        f"of {shape}, {info.num_classes} classes"
    )


def mismatch(known: Info, now: Info, shape: bool = True) -> str | None:
    """A sentence on a change to a run's dataset with which the run cannot go on; None if there is none.

    Such changes are other classes, another order of them or, with `shape`, another shape of the images.
    """
    before, after = set(known.class_names), set(now.class_names)
    gone = [name for name in known.class_names if name not in after]
    new = [name for name in now.class_names if name not in before]
    if gone or new:
        said = [f"{what}: {listed(names)}" for what, names in (("gone", gone), ("new", new)) if names]
        return f"the classes of '{now.name}' are not those that the run was trained on ({'; '.join(said)})"
    if known.class_names != now.class_names:
        moved = next(i for i, name in enumerate(known.class_names) if now.class_names[i : i + 1] != (name,))
        return (
            f"the classes of '{now.name}' are in another order than those that the run was trained on: from class "
            f"{moved} on {listed(now.class_names[moved:])} instead of {listed(known.class_names[moved:])}"
        )
    if shape and known.image_shape != now.image_shape:
        expected = size_text(known.image_shape)
        return f"images of '{now.name}' are {size_text(now.image_shape)}; the run was trained on {expected}"
    return None


def tolerable_changes(known: Info, now: Info) -> str | None:
    """A sentence on changes to a run's dataset with which the run can still go on; None if there are none."""
    if known.fingerprint and known.fingerprint == now.fingerprint:
        return None  # the sizes may differ still: unreadable images are left out, and some runs read no test images
    said = []
    for field in ("train", "test", "validation"):
        before, after = (getattr(info, f"{field}_size") for info in (known, now))
        if before != after:
            kind = "training" if field == "train" else field
            said.append(f"{count_of(after, f'{kind} image')}, {before:,} before")
    if not said and known.fingerprint:
        said.append("as many images as before, but different ones, or in other classes")
    return f"'{now.name}' has changed since the run began: {'; '.join(said)}" if said else None


def kept_order(class_names: tuple[str, ...], known: Info | None) -> tuple[str, ...]:
    """The class names in the order of the stored facts of a run, if these are of the same classes."""
    return known.class_names if known and set(known.class_names) == set(class_names) else class_names


def fingerprint(examples: Iterable[str]) -> str:
    """A hash of the names and labels of examples, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for example in examples:
        digest.update(example.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


def size_text(shape: Sequence[int]) -> str:
    """The lengths of an image's axes as text: '28 x 28 x 1'."""
    return " x ".join(map(str, shape))
