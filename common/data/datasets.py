"""Datasets by the name of their source: bundled digits, prepared TFDS datasets, folders of images, shards.

Classes, sizes and names come from the data. Nothing here imports JAX. `config` is always the `data` section of a
validated config.
"""

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from concurrent import futures
from typing import Generic, TypeVar

import numpy as np
from absl import logging
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict

from common.data.decode import BadImageError
from common.data.preparation import Preparation
from common.data.sources import ArraySource, ImageSource, Record, Records, Source, Subset, read_all
from common.errors import UserError, listed, unknown

ARRAYS_BYTES = 4 * 2**30  # the largest dataset that memory 'auto' decodes into memory
_CHUNK = 256  # examples that a thread decodes at once
# Decoding smaller images is mostly Python, which threads slow down (MNIST by a third on two cores).
_THREADED_BYTES = 2**15


SourceT = TypeVar("SourceT", bound=Source, covariant=True)  # `ImageSource` for a dataset that is only opened


@dataclasses.dataclass(frozen=True)
class Info:
    """Facts about a dataset.

    image_shape: (height, width, channels) of the network's input, after channels, resize, crop and pad.
    train_size, test_size, validation_size: numbers of examples, the first after `limit`.
    fingerprint: a hash of the names and labels of all examples (of their numbers, for a TFDS dataset).
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_size: int
    test_size: int
    validation_size: int = 0
    fingerprint: str = ""


@dataclasses.dataclass(frozen=True)
class Dataset(Generic[SourceT]):
    """Training, test and perhaps validation examples, and the facts they share.

    notes: sentences that a user should read before training, such as which images are tested on.
    """

    train: SourceT
    test: SourceT
    info: Info
    bad: dict[str, object] = dataclasses.field(default_factory=dict)  # messages about unreadable images
    validation: SourceT | None = None
    notes: tuple[str, ...] = ()


class NotPreparedError(UserError):
    """The error for a known dataset that is not prepared on this machine; `info` has the facts known so far."""

    def __init__(self, message: str, info: Info):
        super().__init__(message)
        self.info = info


# Kinds of sources, each with the module of its `open_dataset(name, config, ...) -> Dataset`, which decodes nothing.
_KINDS = {
    "tfds": "common.data.tfds_source",
    "folder": "common.data.folder",
    "parquet": "common.data.parquet",
    "webdataset": "common.data.webdataset",
}


def load(config: ConfigDict, known: Info | None = None) -> Dataset[Source]:
    """The dataset that a `data` section describes, in memory if `memory` says so; arguments as for `open_dataset`."""
    return decoded(open_dataset(config, known), config)


def open_dataset(config: ConfigDict, known: Info | None = None) -> Dataset[ImageSource]:
    """The facts and the stored examples of the dataset that a `data` section describes; no image is decoded.

    known: the stored facts of a resumed run, whose order of classes is kept if the classes are the same.
    Raises UserError when the dataset does not exist or is not what the section expects.
    """
    return _limited(_open(config, known), config.limit)


def decoded(dataset: Dataset[ImageSource], config: ConfigDict, test: bool = True) -> Dataset[Source]:
    """An opened dataset, its images decoded into memory if `memory` of the `data` section says so.

    Training images that are cropped or resized at random are never decoded into memory. With `skip_bad`, test and
    validation images that cannot be read are left out, which takes one more pass over these sets.
    test: False leaves the test set alone; none of its images is read.
    """
    if config.skip_bad:
        dataset = _with_readable(dataset, test)
    in_memory = config.memory == "arrays" or (config.memory == "auto" and _decoded_bytes(dataset) <= ARRAYS_BYTES)
    if not in_memory:
        return dataset
    train = dataset.train if dataset.train.preparation.random else to_arrays(dataset.train)
    validation = dataset.validation and to_arrays(dataset.validation)
    opened: Dataset[Source] = dataset
    tested = to_arrays(dataset.test) if test else dataset.test
    return dataclasses.replace(opened, train=train, test=tested, validation=validation)


def load_test(
    config: ConfigDict,
    *,
    resize: int | None = None,
    whole: bool = False,
    known: Info | None = None,
    everything: bool = False,
) -> Source:
    """The test examples of a `data` section for a test protocol, decoded at each access.

    resize: replaces the section's shorter side in pixels; None keeps it, 0 keeps the stored size.
    whole: images are not cropped, so they differ in size if the stored ones do. Otherwise the centre is cut to the
    network's input size; an image too small for that raises a UserError that names it.
    known: the stored facts of the run to test. A folder then needs only test images, labelled with the run's classes.
    Raises UserError for other classes and, without `resize` or `whole`, for images of another shape than the run's.
    everything: test on all of a folder without splits (PATH/<class>/*), not just on the part held out of it.
    """
    kind, name = _parse(config)
    if known is not None and kind == "folder":
        dataset = importlib.import_module(_KINDS[kind]).open_test(name, config, known, everything)
    else:
        dataset = _open(config, known)
    if known is not None and (wrong := difference(known, dataset.info, shape=resize is None and not whole)):
        raise UserError(wrong)
    if config.skip_bad:
        dataset = _with_readable(dataset)
    preparation = dataclasses.replace(dataset.test.preparation, whole=whole)
    if resize is not None:
        height, width = (length - 2 * config.pad for length in dataset.info.image_shape[:2])
        if height != width and not whole:
            raise UserError(f"the network's input is {height} x {width} pixels; only squares can be resized")
        preparation = dataclasses.replace(preparation, resize=resize, crop=height)
    return dataclasses.replace(dataset.test, preparation=preparation)


def load_info(config: ConfigDict) -> Info:
    """Only the facts of a dataset; no image is decoded.

    For a dataset that TFDS knows but that is not prepared here, the sizes are 0.
    """
    try:
        return open_dataset(config).info
    except NotPreparedError as error:
        return error.info


def difference(known: Info, now: Info, shape: bool = True) -> str | None:
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
        return f"images of '{now.name}' are {_lengths(now)}; the run was trained on {_lengths(known)}"
    return None


def changes(known: Info, now: Info) -> str | None:
    """A sentence on a change to a run's dataset with which the run can still go on; None if there is none."""
    said = []
    for field in ("train", "test", "validation"):
        before, after = (getattr(info, f"{field}_size") for info in (known, now))
        if before != after:
            said.append(f"{after:,} {'training' if field == 'train' else field} images, {before:,} before")
    if not said and known.fingerprint and known.fingerprint != now.fingerprint:
        said.append("as many images as before, but different ones, or in other classes")
    return f"'{now.name}' has changed since the run began: {'; '.join(said)}" if said else None


def fingerprint(examples: Iterable[str]) -> str:
    """A hash of the names and labels of examples, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for example in examples:
        digest.update(example.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


def _lengths(info: Info) -> str:
    return " x ".join(map(str, info.image_shape))


def check(config: ConfigDict) -> None:
    """Raises UserError for a source, a validation set or an order that no dataset can have, without looking for it."""
    kind, _ = _parse(config)
    if config.sampling == "balanced" and config.shuffle != "epoch":
        raise UserError(
            "config.data.sampling 'balanced' draws different images of large classes in each epoch, but "
            f"config.data.shuffle is '{config.shuffle}'; set it to 'epoch'"
        )
    validation = config.validation
    share = held_out_share(config)
    if share is not None and not 0 < share < 1:
        raise UserError(f"config.data.validation is '{validation}'; expected a share between 0% and 100%")
    if share is None and validation and kind == "digits":
        raise UserError(f"config.data.validation is '{validation}'; 'digits' has no splits: expected a share")
    if validation and validation in (config.train_split, config.test_split):
        raise UserError(
            f"config.data.validation '{validation}' is trained or tested on; choose another split or a share"
        )


def held_out_share(config: ConfigDict) -> float | None:
    """The fraction of the training set that `validation` of a `data` section asks for; None if it names a split."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*%", config.validation)
    return float(found[1]) / 100 if found else None


def as_dataset(
    train: Records,
    test: Records,
    facts: Info,
    config: ConfigDict,
    validation: Records | None = None,
    notes: Sequence[str] = (),
) -> Dataset[ImageSource]:
    """A dataset from its stored images; `facts` has their stored shape, and sizes that are ignored."""
    info = dataclasses.replace(
        as_fed(facts, config),
        train_size=len(train),
        test_size=len(test),
        validation_size=0 if validation is None else len(validation),
    )
    # If the section does not choose between grey and colour, the data do.
    channels = info.image_shape[2]
    in_training, in_testing = (
        dataclasses.replace(Preparation.from_config(config, train=random), channels=channels)
        for random in (True, False)
    )
    bad: dict[str, object] = {}
    training = ImageSource(train, in_training, bad if config.skip_bad else None)
    validating = None if validation is None else ImageSource(validation, in_testing)
    return Dataset(training, ImageSource(test, in_testing), info, bad, validating, tuple(notes))


def as_fed(facts: Info, config: ConfigDict) -> Info:
    """The facts of a dataset, with the shape of the network's input instead of the stored images'."""
    return dataclasses.replace(facts, image_shape=Preparation.from_config(config).shape(*facts.image_shape))


def to_arrays(source: Source) -> ArraySource:
    """Every example of a source, decoded in threads."""
    first = source[0]["image"]
    images = np.empty((len(source), *first.shape), first.dtype)
    labels = np.empty(len(source), np.int32)
    chunks = [range(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK)]
    with futures.ThreadPoolExecutor(os.cpu_count() if first.nbytes >= _THREADED_BYTES else 1) as pool:
        for _ in pool.map(functools.partial(_fill, images, labels, source), chunks):
            pass  # iterating raises again what a thread raised
    return ArraySource(images, labels)


def labels(source: Source) -> Int[np.ndarray, " examples"]:
    """The label of every example. No image is decoded, but every record of a streamed TFDS dataset is read."""
    if isinstance(source, ArraySource):
        return source.labels
    if not isinstance(source, ImageSource):
        raise TypeError(f"expected examples of this package, got {type(source).__name__}")
    chunks = (range(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK))
    return np.array([record.label for chunk in chunks for record in read_all(source.records, chunk)], np.int32)


def fixed_order(keys: Iterable[str]) -> Int[np.ndarray, " keys"]:
    """A permutation of the keys that looks random but depends only on the keys: the order of their hashes.

    It is the same on every machine, and adding or removing keys leaves the order of the others unchanged.
    """
    digests = [hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest() for key in keys]
    return np.argsort(np.array([int.from_bytes(digest) for digest in digests], np.uint64), kind="stable")


def hold_out(
    labels: Int[np.ndarray, " examples"], class_names: Sequence[str], fraction: float, purpose: str = "testing"
) -> tuple[Int[np.ndarray, " rest"], Int[np.ndarray, " held_out"]]:
    """Indices of the examples that stay and of those that are held out, the first `fraction` of each class.

    Both parts get at least one example of each class. Raises UserError for a class that has only one.
    """
    by_class = np.argsort(labels, kind="stable")
    present, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    if sizes.min() < 2:
        name = class_names[present[np.argmin(sizes)]]
        raise UserError(f"class '{name}' has one image; expected at least two, to hold one out for {purpose}")
    counts = np.clip(np.round(fraction * sizes).astype(int), 1, sizes - 1)
    rank = np.arange(len(labels)) - np.repeat(starts, sizes)  # of each example within its class
    held_out = np.zeros(len(labels), bool)
    held_out[by_class] = rank < np.repeat(counts, sizes)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def held_out_note(fraction: float, purpose: str = "tested") -> str:
    """The sentence for `Dataset.notes` about held-out training images."""
    return f"{purpose} on {100 * fraction:.4g}% of each class, held out of the training images"


def _parse(config: ConfigDict) -> tuple[str, str]:
    """Parses 'digits' to ('digits', '') and 'tfds:mnist' to ('tfds', 'mnist'); UserError for other kinds."""
    kind, _, name = config.source.partition(":")
    if (kind == "digits" and not name) or (kind in _KINDS and name):
        return kind, name
    forms = ("digits", "tfds:NAME", "folder:PATH", "parquet:PATH", "webdataset:PATH")
    raise unknown("config.data.source", config.source, forms)


def _open(config: ConfigDict, known: Info | None = None) -> Dataset[ImageSource]:
    check(config)
    kind, name = _parse(config)
    if kind == "digits":
        return _digits(config)
    module = importlib.import_module(_KINDS[kind])
    return module.open_dataset(name, config) if kind == "tfds" else module.open_dataset(name, config, known)


@dataclasses.dataclass(frozen=True)
class _Stored:
    """Images in memory, not yet prepared."""

    images: UInt8[np.ndarray, "examples height width channels"]
    labels: Int[np.ndarray, " examples"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Record:
        return Record(self.images[index], int(self.labels[index]), f"digit {index}")


def _digits(config: ConfigDict) -> Dataset:
    """The 8x8 handwritten digits bundled with scikit-learn (UCI's test set of 1,797)."""
    if (config.train_split, config.test_split) != ("train", "test"):
        raise UserError("config.data.source 'digits' has no splits to choose; config.data.holdout sizes its test set")
    pixels, target = _digits_file()
    order = fixed_order(map(str, range(len(target))))
    images = np.round(pixels[order].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = target[order]
    class_names = tuple("0123456789")
    train, test = hold_out(labels, class_names, config.holdout)
    notes, validation = [held_out_note(config.holdout)], None
    if share := held_out_share(config):
        rest, held_out = hold_out(labels[train], class_names, share, "validation")
        train, validation = train[rest], train[held_out]
        notes.append(held_out_note(share, "validated"))
    facts = Info("digits", len(class_names), class_names, images.shape[1:], 0, 0)
    parts = (("train", train), ("test", test), ("validation", () if validation is None else validation))
    kept = fingerprint(f"{split} {order[i]} {labels[i]}" for split, part in parts for i in part)
    facts = dataclasses.replace(facts, fingerprint=kept)
    training, testing = (_Stored(images[part], labels[part]) for part in (train, test))
    validating = None if validation is None else _Stored(images[validation], labels[validation])
    return as_dataset(training, testing, facts, config, validating, notes)


def _digits_file() -> tuple[Float[np.ndarray, "1797 64"], Int[np.ndarray, " 1797"]]:
    """Pixels, 0 to 16, and labels, as from `sklearn.datasets.load_digits`.

    The file is read directly if it is found, because importing scikit-learn takes longer than the rest of a run's
    start.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in package.submodule_search_locations or () if package else ():
        file = pathlib.Path(folder, "datasets", "data", "digits.csv.gz")
        if file.exists():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.data, digits.target


def _limited(dataset: Dataset[ImageSource], limit: int) -> Dataset[ImageSource]:
    """The dataset with only the first `limit` training examples; 0 keeps all."""
    if not limit:
        return dataset
    size = len(dataset.train)
    if limit > size:
        raise UserError(f"config.data.limit is {limit}, but '{dataset.info.name}' has {size} training examples")
    train = dataclasses.replace(dataset.train, records=Subset(dataset.train.records, range(limit)))
    return dataclasses.replace(dataset, train=train, info=dataclasses.replace(dataset.info, train_size=limit))


def _with_readable(dataset: Dataset[ImageSource], tested: bool = True) -> Dataset[ImageSource]:
    """The dataset without unreadable test and validation images, which are listed in its notes and in `bad`.

    tested: False leaves the test set alone.
    """
    test, validation, notes = dataset.test, dataset.validation, list(dataset.notes)
    if tested:
        test = _readable(test, "test", dataset.bad, notes)
    if validation is not None:
        validation = _readable(validation, "validation", dataset.bad, notes)
    info = dataclasses.replace(dataset.info, test_size=len(test), validation_size=len(validation or ()))
    return dataclasses.replace(dataset, test=test, validation=validation, info=info, notes=tuple(notes))


def _readable(source: ImageSource, purpose: str, bad: dict[str, object], notes: list[str]) -> ImageSource:
    """The examples of a source that can be read; UserError if none can."""
    chunks = [range(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK)]
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(pair for part in pool.map(functools.partial(_unreadable, source), chunks) for pair in part)
    if not found:
        return source
    if len(found) == len(source):
        raise UserError(f"none of the {len(source)} {purpose} images can be read; the first: {found[0]}")
    for error in found.values():
        logging.warning("%s; left out of the %s set", error, purpose)
        bad[f"{error}; left out of the {purpose} set"] = None
    notes.append(f"{len(found):,} of {len(source):,} {purpose} images cannot be read and are left out")
    indices = np.setdiff1d(np.arange(len(source)), list(found))
    return dataclasses.replace(source, records=Subset(source.records, indices))


def _unreadable(source: ImageSource, chunk: range) -> list[tuple[int, str]]:
    """The index and the error of each image in a chunk that cannot be read."""
    found = []
    for index in chunk:
        try:
            source[index]
        except BadImageError as error:
            found.append((index, str(error)))
    return found


def _decoded_bytes(dataset: Dataset[ImageSource]) -> int:
    sources = (dataset.train, dataset.test, dataset.validation or ())
    return sum(map(len, sources)) * dataset.train[0]["image"].nbytes


def _fill(images: np.ndarray, labels: np.ndarray, source: Source, chunk: range) -> None:
    """Decodes one chunk of a source into its place."""
    for i, example in zip(chunk, read_all(source, chunk), strict=True):
        images[i], labels[i] = example["image"], example["label"]
