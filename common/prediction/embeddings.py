"""A file with the output of one layer for each image."""

import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from common.errors import UserError
from common.files import check_writable, user_path, whole_file
from common.prediction.images import Prepared

SUFFIX = ".npz"


class Embeddings:
    """Collects the values of a layer and writes them with the names of the image files.

    The file has the arrays `files` [images], `embeddings` [images, ...] in float32, and `layer`, the layer's name.
    """

    def __init__(self, name: str, layer: str):
        """Starts an empty collection.

        Raises UserError if the file `name` cannot be written, before anything is computed.
        """
        self.path, self.layer = user_path(name), layer
        if self.path.suffix != SUFFIX or self.path.is_dir():
            raise UserError(f"--embeddings is '{name}'; expected the name of a file that ends in {SUFFIX}")
        check_writable(self.path)
        self._files: list[str] = []
        self._parts: list[np.ndarray] = []

    def add(self, images: Sequence[Prepared], values: Float[np.ndarray, "images ..."]) -> None:
        """Adds the values for some images."""
        self._files += [image.file.path for image in images]
        self._parts.append(values)

    def write(self) -> pathlib.Path:
        """Writes the file and returns its path."""
        with whole_file(self.path) as fresh:
            np.savez(fresh, files=self._files, embeddings=np.concatenate(self._parts), layer=self.layer)
        return self.path
