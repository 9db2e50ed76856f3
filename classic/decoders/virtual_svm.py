"""Support vector machine that is fitted again to its support vectors and copies of them (Schoelkopf et al. 1996).

Far from the border between classes a copy, such as a shifted image, tells nothing new. So copies of the support vectors
do nearly what copies of all images would do. The kernel is the polynomial one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders import machine, polynomial_svm, scaled
from classic.decoders.kernels import Kernel
from classic.decoders.rows import checked, part_size
from classic.decoders.scaled import ScaledKernel
from classic.decoders.selection import Examples
from classic.options import SIZE

DEFAULTS: dict[str, Any] = {
    **polynomial_svm.DEFAULTS,
    "degree": 9,
    "copies": 4,  # that follow the pixels in an image's features
}
CHOICES: dict = {}
RANGES = {**polynomial_svm.RANGES, "copies": SIZE}


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """The second machine with its support vectors 'support' [s d] and 'gamma'; features have to fit into memory.

    Raises UserError for features that are not pixels and as many copies as the options say.
    """
    num_classes = checked(features, labels, num_classes)
    size = part_size(features, "copies", options.copies, "'shifts' gives an image and 4 copies")

    def of_pairs(
        kernel: Kernel,
        part: Float32[np.ndarray, "m f"],
        part_labels: Int[np.ndarray, " m"],
        constant: float,
        count: int,
        svc_options: Mapping[str, Any],
    ) -> dict[str, np.ndarray]:
        first = machine.of_pairs(kernel, part, part_labels, constant, count, {"kernel": kernel})
        virtual = first["support"].reshape(-1, size)
        theirs = np.repeat(first["classes"], (options.copies + 1) * first["counts"])
        return machine.of_pairs(kernel, virtual, theirs, constant, count, svc_options)

    own = ConfigDict({**options.to_dict(), "gamma": options.gamma or scaled.scale(features[:, :size])})
    svc_options = polynomial_svm.svc_options(options)
    kernel = _of_pixels(options, size)
    return scaled.fit(features, labels, own, seed, num_classes, validation, kernel, svc_options, of_pairs)


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The number of pairs that each class wins, see `machine.scores`; an image's copies are not read."""
    return scaled.scores(arrays, features, _of_pixels(options, arrays["support"].shape[1]))


def _of_pixels(options: ConfigDict, size: int) -> ScaledKernel:
    """The polynomial kernel of the first `size` features, with a scale."""
    whole = polynomial_svm.kernel(options)

    def scaled_kernel(gamma: float) -> Kernel:
        values = whole(gamma)
        return lambda x, y: values(x[:, :size], y[:, :size])

    return scaled_kernel
