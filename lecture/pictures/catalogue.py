"""The lecture's pictures by name, in the order of the lecture."""

import pathlib
from collections.abc import Callable

from matplotlib.figure import Figure

from lecture.pictures import layers, losses, networks

DRAWN: dict[str, Callable[[], Figure]] = {
    "corners": layers.corners,
    "convolution": layers.convolution,
    "subsampling": layers.subsampling,
    "rbf": losses.rbf,
    "cross_entropy": losses.cross_entropy,
    "activations": losses.activations,
    "augmentation": losses.augmentation,
    "receptive_fields": layers.receptive_fields,
    "inception": layers.inception,
    "normalisation_axes": layers.normalisation_axes,
}
# These train a network first, in a given folder.
TRAINED: dict[str, Callable[[pathlib.Path], Figure]] = {
    "pipeline": networks.classic_pipeline,
    "plain_and_residual": networks.plain_and_residual,
    "attention": networks.attention,
}
PICTURES = (*DRAWN, *TRAINED)


def draw(name: str, runs: pathlib.Path) -> Figure:
    """The picture with this name; `runs` keeps the runs that it needs, so that they are not repeated."""
    return DRAWN[name]() if name in DRAWN else TRAINED[name](runs)
