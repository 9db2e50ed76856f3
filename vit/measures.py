"""A number and a picture for the Vision Transformer paper's claims, read off trained runs with their checkpoints."""

import functools
import pathlib
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from common.claims import charts
from common.claims.claim import Folders
from common.data import datasets, pipeline
from common.run import trained
from vit import analysis

if TYPE_CHECKING:
    import matplotlib.figure  # slow: claims are listed and decided without it


def attention_distance_grows(folder: pathlib.Path) -> float:
    """Pixels by which the last layer's mean attention distance exceeds the first's."""
    distances = head_distances(folder).mean(axis=1)
    return float(distances[-1] - distances[0])


def draw_attention_distances(folders: Folders) -> "matplotlib.figure.Figure":
    """The attention distance of each head by its layer, a point for each seed, and the mean of each layer."""
    figure, axes = charts.empty_figure(height=3.8)
    for name, found in folders.items():
        measured = np.array([head_distances(folder) for folder in found])
        layers = np.arange(1, measured.shape[1] + 1)
        [line] = axes.plot(layers, measured.mean(axis=(0, 2)), label=f"{name}: mean of its heads")
        heads = np.moveaxis(measured, 1, 0).reshape(len(layers), -1)
        axes.plot(layers, heads, "o", ms=4, alpha=0.4, color=line.get_color())
    axes.set(xlabel="layer", ylabel="mean attention distance (pixels)", xticks=layers, ylim=(0, None))
    axes.legend(frameon=False, loc="lower right")
    return figure


@functools.cache
def head_distances(folder: pathlib.Path) -> Float[np.ndarray, "layers heads"]:
    """The attention distances of a finished run in pixels, on the first 128 test images."""
    run = trained.load(folder)
    test = datasets.load_test(run.config.data, known=run.info)
    images, _ = pipeline.gather(test, np.arange(min(analysis.MEASURED, len(test))))
    return analysis.measured_distance(run, images)
