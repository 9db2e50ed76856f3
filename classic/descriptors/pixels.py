"""The whole image as one descriptor: its pixels, divided by 255."""

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from classic.descriptors.record import Descriptors, on_grid

DEFAULTS: dict = {}
CHOICES: dict = {}
RANGES: dict = {}


def describe(images: UInt8[np.ndarray, "n h w c"], options: ConfigDict) -> Descriptors:
    """One descriptor of d = h w c values in [0, 1] for each image, placed at its centre; there are no options."""
    vectors = images.reshape(len(images), 1, -1).astype(np.float32) / 255
    centre = np.full(1, 0.5, np.float32)
    return on_grid(vectors, centre, centre)
