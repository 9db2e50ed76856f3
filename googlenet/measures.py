"""A number and a picture for the GoogLeNet paper's claims on crops, read off trained runs with their checkpoints."""

import functools
from typing import TYPE_CHECKING

import numpy as np

from common.claims import charts, protocol_errors
from common.claims.claim import Folders

if TYPE_CHECKING:
    import matplotlib.figure  # slow: claims are listed and decided without it

# Test images for a first look: all 10,000 with 144 crops each take as long as fifty short runs.
FEWER = 2000
_CROPS = {1: "single", 10: "ten_crop", 144: "googlenet_144"}  # the protocol of each number of crops

gain_of_144 = functools.partial(protocol_errors.gain, protocol=_CROPS[144], over=_CROPS[10])


def draw_errors(folders: Folders) -> "matplotlib.figure.Figure":
    """The error on the first 2,000 test images against the number of crops: a thin line for each seed, and the mean."""
    figure, axes = charts.empty_figure(height=3.8)
    for found in folders.values():
        errors = [[protocol_errors.error(folder, name, FEWER) for name in _CROPS.values()] for folder in found]
        seeds = axes.plot([*_CROPS], 100 * np.transpose(errors), color="#1f77b4", lw=1, alpha=0.4)
        mean = axes.plot([*_CROPS], 100 * np.mean(errors, axis=0), "o-", color="#1f77b4", lw=2)
        axes.legend([seeds[0], mean[0]], ["one seed", "mean"], frameon=False)
    axes.set(xlabel="crops of an image", ylabel="test error (%)", xscale="log")
    axes.set_xticks([*_CROPS], [str(crops) for crops in _CROPS])
    return figure
