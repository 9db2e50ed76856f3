"""Numbers that the LeNet papers' claims compare, read off trained runs with their checkpoints."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from common.data import datasets, transforms
from common.data.sources import ArraySource, to_arrays
from common.run import trained
from lenet.bitmaps import CENTRES

_BATCH = 1000


def noisy_test_error(folder: pathlib.Path) -> float:
    """The error on test images with each pixel inverted with probability 0.1 (LeCun 1998, section III-E).

    The noise is the same for every run. The run needs `data.normalize` 'range', which fixes the values of black and
    white.
    """
    run = trained.load(folder)
    test = to_arrays(datasets.load_test(run.config.data, known=run.info))
    black, white = run.config.data.pixel_range
    images = trained.network_input(run, jnp.asarray(test.images))
    noisy = transforms.invert_pixels(jax.random.key(0), images, 0.1, black, white)
    return trained.predictions(run, ArraySource(np.asarray(noisy), test.labels)).error


def wrong_pixels(folder: pathlib.Path) -> float:
    """The fraction of F6's 84 outputs whose sign is not that of the true class's bitmap, over the test set."""
    from lenet import pictures  # imports Matplotlib, which is slow

    run = trained.load(folder)
    test = to_arrays(datasets.load_test(run.config.data, known=run.info))
    starts = range(0, len(test), _BATCH)
    drawn = np.concatenate([pictures.features(run, test.images[start : start + _BATCH]) for start in starts])
    return share_wrong(drawn, test.labels)


def share_wrong(drawn: Float[np.ndarray, "examples 84"], labels: Int[np.ndarray, " examples"]) -> float:
    """The fraction of values with another sign than the bitmap of their class."""
    return float(np.mean(np.sign(drawn) != CENTRES[labels]))
