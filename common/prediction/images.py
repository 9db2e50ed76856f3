"""Image files for prediction: found in folders, read and prepared in threads ahead of the network."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from common.data import decode, preparation
from common.data.formats import listing
from common.data.preparation import Preparation
from common.data.sources import read_ahead
from common.devices import host
from common.errors import UserError
from common.run.trained import Trained

HEAT_MAP = ".heat.png"  # the end of the names that `--explain` gives to its pictures: they never overwrite images
WHITE = 255

Report = Callable[[UserError], None]


class File(NamedTuple):
    """An image file; `name` is its path relative to the folder that it was found in."""

    path: str
    name: str


class Prepared(NamedTuple):
    """An image as the run's dataset would hold it. note: a remark on steps that are not in the run's config, or ''."""

    file: File
    pixels: UInt8[np.ndarray, "height width channels"]
    note: str


def find(paths: Iterable[str | os.PathLike], report: Report) -> list[File]:
    """The files that the paths name and, for a folder, all files in it and in its sub-folders, by name.

    Hidden files, file managers' leftovers and the heat maps of an earlier `--explain` are ignored. A folder without
    files, or one that cannot be read, is reported.
    """
    files = []
    for path in [os.fspath(given) for given in paths]:
        if not path:  # as from a variable that is not set
            report(UserError("a path is empty; expected an image file or a folder"))
            continue
        if not os.path.isdir(path):
            files.append(File(path, os.path.basename(path)))
            continue
        try:
            found = listing.files_below(path)
            names = [name for name in found if not name.endswith(HEAT_MAP)]
            if not names:
                raise UserError(f"'{path}' is a folder without files" + f" but heat maps (*{HEAT_MAP})" * bool(found))
            files += [File(os.path.join(path, name), name) for name in names]
        except UserError as error:
            report(error)
    return files


def batches(run: Trained, files: Sequence[File], size: int, invert: bool, report: Report) -> Iterator[list[Prepared]]:
    """Batches of `size` prepared images, in the order of the files; the last may have fewer.

    invert: swap black and white, in addition to what the run's config does. Files that hold no image, or none that the
    run can take, are reported and left out.
    """
    batch = []
    prepare = functools.partial(_prepare, run, invert=invert)
    for found in read_ahead(prepare, files, threads=host.cores(), ahead=2 * size):
        if isinstance(found, UserError):
            report(found)
            continue
        batch.append(found)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _prepare(run: Trained, file: File, invert: bool) -> Prepared | UserError:
    try:
        return Prepared(file, *read_input(run, file.path, invert))
    except UserError as error:
        return error


def read_input(
    run: Trained, file: str | os.PathLike, invert: bool
) -> tuple[UInt8[np.ndarray, "height width channels"], str]:
    """The image in a file as the run's dataset would hold it, and a note on steps that are not in the run's config."""
    data, (height, width, channels) = run.config.data, run.info.image_shape
    # config.data.channels is 0 for a dataset whose images are used as stored, grey or in colour.
    as_tested = dataclasses.replace(Preparation.from_config(data), channels=channels, invert=data.invert != invert)
    image, notes = decode.read(file, channels), []
    content = (height - 2 * data.pad, width - 2 * data.pad)
    if not as_tested.side and image.shape[:2] != content:
        notes.append(f"resized from {_size(image.shape)} to {_size(content)}")
        image = _fit(image, content)
    prepared = preparation.prepare_image(image, as_tested, name=str(file))
    if data.pad and _edge(prepared, data.pad) > WHITE / 2:
        notes.append("bright at its edges, where training images are black: perhaps --invert")
    return prepared, "; ".join(notes)


def _edge(image: UInt8[np.ndarray, "height width channels"], pad: int) -> float:
    """The median of the outermost pixels inside an image's padding."""
    inner = image[pad:-pad, pad:-pad]
    return float(np.median(np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _fit(image: UInt8[np.ndarray, "_ _ channels"], size: tuple[int, int]) -> UInt8[np.ndarray, "_ _ channels"]:
    """The image cut around its centre to the proportions of `size` (height, width) and resized to it."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[-1] == 1 else image)
    fitted = np.array(ImageOps.fit(picture, size[::-1], Image.Resampling.BILINEAR))
    return fitted.reshape(*size, image.shape[-1])
