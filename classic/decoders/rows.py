"""The rows of a feature matrix, in blocks that fit into memory, and the checks that every decoder makes."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Float32, Int

from common.errors import UserError

BLOCK_BYTES = 2**27  # of a block of rows
KEPT_BYTES = 3 * 2**30  # of mapped features at most are kept in memory; more are mapped again in each pass


def identity(block: Float32[np.ndarray, "m f"]) -> Float32[np.ndarray, "m f"]:
    """The feature map that keeps features as they are."""
    return block


@dataclasses.dataclass(frozen=True)
class Rows:
    """Features, perhaps memory-mapped or of 16 bits, that are read as blocks of 32-bit rows.

    feature_map: the map that is applied to each block.
    """

    features: Float[np.ndarray, "n f"]
    feature_map: Callable[[np.ndarray], np.ndarray] = identity

    def __len__(self) -> int:
        return len(self.features)

    @property
    def width(self) -> int:
        """The number of features in a row, after the map."""
        return self.feature_map(np.zeros((1, self.features.shape[1]), np.float32)).shape[1]

    def blocks(self) -> Iterator[tuple[slice, Float32[np.ndarray, "m w"]]]:
        """Each block of rows with its place."""
        size = max(1, BLOCK_BYTES // (4 * max(self.width, 1)))
        for start in range(0, len(self), size):
            place = slice(start, min(start + size, len(self)))
            yield place, self.feature_map(np.asarray(self.features[place], np.float32))

    def mapped(self) -> "Rows":
        """The same rows with the map already applied, if the result is small enough to keep; else these rows."""
        if self.feature_map is identity or 4 * self.width * len(self) > KEPT_BYTES:
            return self
        kept = np.empty((len(self), self.width), np.float32)
        for place, block in self.blocks():
            kept[place] = block
        return Rows(kept)


def checked(features: Float[np.ndarray, "n f"], labels: Int[np.ndarray, " n"], num_classes: int | None) -> int:
    """The number of classes. Raises UserError for features that are not finite, and for fewer than two classes."""
    if len(features) != len(labels):
        raise ValueError(f"{len(features)} rows of features for {len(labels)} labels")
    if len(np.unique(labels)) < 2:
        raise UserError(f"the {len(labels)} training images are all of one class; a decoder needs two or more")
    for place, block in Rows(features).blocks():
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            first = place.start + int(np.argmax(bad))
            raise UserError(f"the features of training image {first} hold numbers that are not finite")
    return int(labels.max()) + 1 if num_classes is None else num_classes


def part_size(features: Float[np.ndarray, "n f"], option: str, others: int, given: str) -> int:
    """The number of features in each equal part of a row: an image, and `others` that are made from it.

    option: the decoder's option that says how many. given: the describer of such features, for the message. Raises
    UserError for features that are not as many equal parts.
    """
    parts = others + 1
    if features.shape[1] % parts:
        raise UserError(
            f"config.decode.{option} is {others}, but an image has {features.shape[1]} features, which are not "
            f"{parts} equal parts; config.describe {given}"
        )
    return features.shape[1] // parts
