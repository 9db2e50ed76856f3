"""Numbers and a picture for the ResNet paper's claims, read off trained runs with their checkpoints."""

import functools
import pathlib
import re
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from common.claims import charts
from common.claims.claim import Folders
from common.data import datasets, pipeline
from common.run import trained

if TYPE_CHECKING:
    import matplotlib.figure  # slow: claims are listed and decided without it

_IMAGES = 1000


def mean_response(folder: pathlib.Path) -> float:
    """The mean over layers of `measured_responses`."""
    return float(np.mean(list(measured_responses(folder).values())))


def draw_responses(folders: Folders) -> "matplotlib.figure.Figure":
    """Each layer's `measured_responses` from the first to the last, for each network the mean of its seeds."""
    figure, axes = charts.empty_figure(height=3.8)
    for name, found in folders.items():
        measured = [list(measured_responses(folder).values()) for folder in found]
        axes.plot(range(2, 2 + len(measured[0])), np.mean(measured, axis=0), "o-", ms=4, label=name)
    axes.set(xlabel="layer with weights", ylabel="standard deviation of the response", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    return figure


@functools.cache
def measured_responses(folder: pathlib.Path) -> dict[str, float]:
    """The `responses` of a finished run to the first 1,000 test images, in the order of its layers."""
    run = trained.load(folder)
    test = datasets.load_test(run.config.data, known=run.info)
    images, _ = pipeline.gather(test, np.arange(min(_IMAGES, len(test))))
    inputs = trained.network_input(run, jnp.asarray(images))
    found = responses(run.classifier.module, run.variables, inputs)
    return {name: float(found[name]) for name in sorted(found, key=_place)}


@functools.partial(jax.jit, static_argnums=0)
def responses(
    module: nn.Module, variables: PyTree, images: Float[Array, "batch height width channels"]
) -> dict[str, Float[Array, ""]]:
    """The standard deviation of the output of each 3x3 layer of the blocks, by the block's and the layer's name.

    He 2016, section 4.2 and Figure 7: after batch normalisation, before the rectifier and the addition. The network's
    blocks must not be scanned.
    """
    _, state = module.apply(variables, images, capture_intermediates=_is_normalisation, mutable=["intermediates"])
    return {
        f"{block}/{layer}": jnp.std(captured["__call__"][0])
        for block, layers in state["intermediates"].items()
        if block.startswith("conv")
        for layer, captured in layers.items()
        if layer.startswith("bn")
    }


def _place(name: str) -> list[int]:
    """The numbers in a layer's name, which give its place: stage, block and layer of 'conv2_10/bn1'."""
    return [int(number) for number in re.findall(r"\d+", name)]


def _is_normalisation(module: nn.Module, method: str) -> bool:
    return bool(module.name) and str(module.name).startswith("bn") and method == "__call__"
