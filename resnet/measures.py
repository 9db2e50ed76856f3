"""Numbers that the ResNet paper's claims compare, read off trained runs with their checkpoints."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from common.data import datasets, pipeline
from common.run import trained

_IMAGES = 1000


def mean_response(folder: pathlib.Path) -> float:
    """The mean over layers of `responses` to the first 1,000 test images of a finished run."""
    run = trained.load(folder)
    test = datasets.load_test(run.config.data, known=run.info)
    images, _ = pipeline.gather(test, np.arange(min(_IMAGES, len(test))))
    inputs = trained.network_input(run, jnp.asarray(images))
    return float(np.mean(list(responses(run.classifier.module, run.variables, inputs).values())))


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


def _is_normalisation(module: nn.Module, method: str) -> bool:
    return bool(module.name) and str(module.name).startswith("bn") and method == "__call__"
