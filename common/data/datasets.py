"""Datasets by the name of their source: bundled digits, prepared TFDS datasets, folders of images, shards.

Classes, sizes and names come from the data. Nothing here imports JAX. `config` is always the `data` section of a
validated config.
"""

import dataclasses
import importlib

from ml_collections import ConfigDict

from common.data import imagenet_names, sources
from common.data.dataset_info import Info, NotPreparedError, mismatch
from common.data.sources import ImageSource, Source, Subset, to_arrays
from common.data.splits import Dataset, held_out_share, refuse_empty
from common.data.unreadable import without_unreadable
from common.errors import UserError, count_of, unknown

# Kinds of sources, each with the module of its `open_dataset(name, config, known) -> Dataset`, which decodes nothing.
_KINDS = {
    "digits": "common.data.formats.digits",
    "tfds": "common.data.formats.tfds_source",
    "folder": "common.data.formats.folder",
    "parquet": "common.data.formats.parquet",
    "webdataset": "common.data.formats.webdataset",
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
        dataset = without_unreadable(dataset, test)
    fits = config.memory == "auto" and _decoded_bytes(dataset) <= sources.ARRAYS_BYTES
    if config.memory != "arrays" and not fits:
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
    if known is not None and (wrong := mismatch(known, dataset.info, shape=resize is None and not whole)):
        raise UserError(wrong)
    if config.skip_bad:
        dataset = without_unreadable(dataset)
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
        raise UserError(f"config.data.validation is '{validation}'; 'digits' has no splits: expected a share, as '10%'")
    if validation and validation in (config.train_split, config.test_split):
        raise UserError(
            f"config.data.validation '{validation}' is trained or tested on; choose another split or a share"
        )


def _parse(config: ConfigDict) -> tuple[str, str]:
    """Parses 'digits' to ('digits', '') and 'tfds:mnist' to ('tfds', 'mnist'). Raises UserError for other kinds."""
    kind, _, name = config.source.partition(":")
    if kind in _KINDS and bool(name) == (kind != "digits"):
        return kind, name
    forms = ("digits", "tfds:NAME", "folder:PATH", "parquet:PATH", "webdataset:PATH")
    raise unknown("config.data.source", config.source, forms)


def _open(config: ConfigDict, known: Info | None = None) -> Dataset[ImageSource]:
    check(config)
    kind, name = _parse(config)
    dataset = importlib.import_module(_KINDS[kind]).open_dataset(name, config, known)
    if known is not None:
        dataset = dataclasses.replace(dataset, info=imagenet_names.respelled(dataset.info, known))
    splits = {"train_split": dataset.train, "test_split": dataset.test, "validation": dataset.validation}
    refuse_empty(dataset.info.name, splits)
    return dataset


def _limited(dataset: Dataset[ImageSource], limit: int) -> Dataset[ImageSource]:
    """The dataset with only the first `limit` training examples; 0 keeps all."""
    if not limit:
        return dataset
    size = len(dataset.train)
    if limit > size:
        there = count_of(size, "training example")
        raise UserError(f"config.data.limit is {limit}, but '{dataset.info.name}' has {there}")
    train = dataclasses.replace(dataset.train, records=Subset(dataset.train.records, range(limit)))
    return dataclasses.replace(dataset, train=train, info=dataclasses.replace(dataset.info, train_size=limit))


def _decoded_bytes(dataset: Dataset[ImageSource]) -> int:
    """The size of the images that may be decoded into memory."""
    train, test, validation = dataset.train, dataset.test, dataset.validation or ()
    kept = (test, validation) if train.preparation.random else (train, test, validation)
    return sum(map(len, kept)) * train[0]["image"].nbytes
