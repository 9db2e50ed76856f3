"""The filter for images that cannot be read (`config.data.skip_bad`)."""

import dataclasses
import functools
from concurrent import futures

import numpy as np
from absl import logging

from common.data.decode import BadImageError
from common.data.sources import ImageSource, Subset, chunks
from common.data.splits import Dataset
from common.devices import host
from common.errors import UserError


def without_unreadable(dataset: Dataset[ImageSource], test: bool = True) -> Dataset[ImageSource]:
    """The dataset without unreadable test and validation images, which are listed in its notes and in `bad`.

    test: False leaves the test set alone.
    """
    testing, validation, notes = dataset.test, dataset.validation, list(dataset.notes)
    if test:
        testing = _readable(testing, "test", dataset.bad, notes)
    if validation is not None:
        validation = _readable(validation, "validation", dataset.bad, notes)
    info = dataclasses.replace(dataset.info, test_size=len(testing), validation_size=len(validation or ()))
    return dataclasses.replace(dataset, test=testing, validation=validation, info=info, notes=tuple(notes))


def _readable(source: ImageSource, purpose: str, bad: dict[str, object], notes: list[str]) -> ImageSource:
    """The examples of a source that can be read. Raises UserError if none can."""
    with futures.ThreadPoolExecutor(host.cores()) as pool:
        parts = pool.map(functools.partial(_unreadable, source), chunks(source))
        found = dict(pair for part in parts for pair in part)
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
