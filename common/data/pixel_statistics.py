"""Statistics of a training set's pixels: means, standard deviations and principal directions.

A run that needs them keeps them beside its checkpoints, so that resuming, predicting and reporting use the statistics
it was trained with and need no dataset.
"""

import functools
import pathlib
import zipfile
from concurrent import futures
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from common.data import dataset_info
from common.data.sources import ArraySource, Source, chunks, read_all
from common.errors import UserError
from common.files import quoted, user_path, whole_file

FILE = "statistics.npz"
_CHUNK = 32  # examples that a thread sums at once


class PixelStatistics(NamedTuple):
    """Statistics of a training set's pixels, in their stored unit (grey levels, 0..255, for integer images).

    mean, std: of each channel over all pixels of all images; a channel that never changes has deviation 1. mean_image:
    the average image. eigenvalues (largest first), eigenvectors (columns of length 1): of the covariance of the
    channels over the same pixels.
    """

    mean: Float[np.ndarray, " channels"]
    std: Float[np.ndarray, " channels"]
    mean_image: Float[np.ndarray, "height width channels"]
    eigenvalues: Float[np.ndarray, " channels"]
    eigenvectors: Float[np.ndarray, "channels channels"]


def needs_statistics(config: ConfigDict) -> bool:
    """True if a run with this config needs the statistics of its training set."""
    data = config.data
    given = data.normalize == "range" or (data.normalize == "channels" and data.mean and data.std)
    return not given or config.augment.pca_colour > 0


def measure(source: Source, threads: int = 1) -> PixelStatistics:
    """The statistics of all examples of a source: the centre of each image, as in testing, summed in float64."""
    total, products = np.zeros(()), np.zeros(())
    with futures.ThreadPoolExecutor(max(threads, 1)) as pool:
        for image_sum, pixel_products in pool.map(functools.partial(_sums, source), chunks(source, _CHUNK)):
            total, products = total + image_sum, products + pixel_products
    mean_image = total / len(source)
    mean = mean_image.mean(axis=(0, 1))
    covariance = products / (len(source) * mean_image[..., 0].size) - np.outer(mean, mean)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    eigenvalues = np.maximum(eigenvalues, 0.0)  # rounding can make those of grey images negative
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    std = np.where(deviation <= 1e-6 * np.abs(mean), 1.0, deviation)  # rounding alone leaves less than that
    values = (mean, std, mean_image, eigenvalues[::-1], eigenvectors[:, ::-1])
    return PixelStatistics(*(np.ascontiguousarray(value, np.float32) for value in values))


def for_training(
    config: ConfigDict, folder: pathlib.Path, train: Source, resumed: bool = False, write: bool = True
) -> PixelStatistics | None:
    """The statistics that a run in `folder` uses, kept there since its first start; None if it needs none.

    The first start takes them from `config.data.statistics`, or measures a training set that is in memory. resumed:
    False for a first start. write: True in one of several processes. Raises UserError for a streamed training set,
    naming the command that measures it, and for statistics of images that are not like the run's.
    """
    if not needs_statistics(config):
        return None
    kept, given, in_memory = folder / FILE, config.data.statistics, isinstance(train, ArraySource)
    # A new run may find the statistics of an earlier run that ended before its first checkpoint.
    is_kept = kept.exists() and (resumed or not (given or in_memory))
    path = kept if is_kept or not given else user_path(given)
    if is_kept or given:
        statistics = load(path)
    elif in_memory:
        statistics = measure(train)
    else:
        raise UserError(
            "this run needs statistics of its training set, which is streamed: measure them first with "
            f"`python -m common.statistics --workdir={quoted(folder)}` with the --config and options of this run"
        )
    first = train[0]["image"]
    if config.data.normalize == "range" and np.issubdtype(first.dtype, np.floating):
        raise UserError("config.augment.pca_colour needs integer images (0..255); these are float images")
    if statistics.mean_image.shape != first.shape:
        theirs, ours = map(dataset_info.size_text, (statistics.mean_image.shape, first.shape))
        raise UserError(
            f"'{path}' is for images of {theirs}, this run's are {ours}: measure them with python -m common.statistics"
        )
    if write and not is_kept:
        save(statistics, kept)
    return statistics


def of_trained_run(config: ConfigDict, folder: pathlib.Path) -> PixelStatistics | None:
    """The statistics that the run in `folder` was trained with, or None if it needed none."""
    return load(folder / FILE) if needs_statistics(config) else None


def load(path: pathlib.Path) -> PixelStatistics:
    """Statistics from a file. Raises UserError if it is missing or damaged."""
    if not path.is_file():
        raise UserError(f"no statistics in '{path}'; python -m common.statistics writes them")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return PixelStatistics(**{name: arrays[name] for name in PixelStatistics._fields})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"'{path}' is damaged or holds no statistics: {error}") from error


def save(statistics: PixelStatistics, path: pathlib.Path) -> None:
    """Writes statistics to a file, whole or not at all."""
    with whole_file(path) as fresh:
        np.savez(fresh, **statistics._asdict())


def _sums(
    source: Source, chunk: range
) -> tuple[Float[np.ndarray, "height width channels"], Float[np.ndarray, "channels channels"]]:
    """The sum of some examples, and the summed products of their pixels' channels."""
    if isinstance(source, ArraySource):
        images = source.images[chunk.start : chunk.stop].astype(np.float64)
    else:
        images = np.stack([example["image"] for example in read_all(source, chunk)]).astype(np.float64)
    pixels = images.reshape(-1, images.shape[-1])
    return images.sum(axis=0), pixels.T @ pixels
