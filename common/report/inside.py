"""Sections of a report that show the inside of a network: filters, feature maps, and the pictures of its family.

A family's `pictures.py` may have

    pictures(run, images, labels) -> [(title, caption, matplotlib Figure), ...]

for a `trained.Run` and up to a thousand of its test images, as stored, evenly spaced over the test set, and

    feature_maps(run, inputs) -> [(layer, maps [height width maps]), ...]

for one image ready for the network, if its layers do not output maps themselves.
"""

import functools
import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float, PyTree

from common import models
from common.anatomy.layer_table import Row
from common.data import pipeline
from common.data.preparation import Pixels
from common.data.sources import Source
from common.nn.batch_norm import BatchNorm
from common.report import figures, samples
from common.report.page import Picture, Section
from common.run import trained
from common.run.trained import Predictions, Run

_LAYERS_SHOWN, _SAMPLE = 8, 1000


def first_filters(run: Run, layers: Sequence[Row]) -> list[Section]:
    """The kernels of the first convolution that reads the image; no section for a network without one."""
    parameters = traverse_util.flatten_dict(run.variables["params"], sep="/")
    channels = run.classifier.input_shape[-1]
    for row in layers:
        kernel = parameters.get(f"{row.name}/kernel")
        if kernel is not None and kernel.ndim == 4 and kernel.shape[2] == channels:
            return [_filters(row.name, np.asarray(kernel, np.float32))]
    return []


def _filters(layer: str, kernel: Float[np.ndarray, "height width channels filters"]) -> Section:
    height, width, channels, count = kernel.shape
    shown = f"the first {figures.FILTERS_SHOWN} of {count}" if count > figures.FILTERS_SHOWN else f"all {count}"
    scale = (
        "each has its own scale, on which zero is grey"
        if channels == 3
        else "red is positive, blue is negative, white is zero"
    )
    caption = f"Weights of {layer}, which reads the image: {shown} kernels of {height}×{width}; {scale}."
    return Section("filters", "First filters", caption, [Picture(figures.filters(kernel), "first filters")])


def example(run: Run, test: Source, predictions: Predictions, layers: Sequence[Row]) -> Section:
    """The first test image and the outputs of layers for it."""
    image, names = test[0]["image"], run.info.class_names
    maps = feature_maps(run, image, layers)
    whose = "map's" if any(layer.own_scales for layer in maps) else "layer's"
    caption = (
        f"The first test image, of class {names[predictions.labels[0]]}, and the outputs of layers for it: the "
        f"{figures.MAPS_SHOWN} maps of each layer that vary most, from the {whose} smallest value (dark) to its "
        "largest (bright). At the bottom are the probabilities of the top predictions."
    )
    figure = figures.through_the_network(image, maps, np.exp(predictions.log_probabilities[0]), names)
    return Section("maps", "One image through the network", caption, [Picture(figure, "feature maps")])


def feature_maps(run: Run, image: Pixels, layers: Sequence[Row]) -> list[figures.Maps]:
    """The outputs of layers for one stored image: those of the family's `feature_maps`, or at most eight layers.

    The eight are evenly spaced from the first to the last of the outermost modules whose outputs are maps of more than
    one pixel. Batch normalisation is left out: its maps are those of the layer before it, on another scale.
    """
    inputs = trained.network_input(run, jnp.asarray(image)[None])
    own = _of_family(run, "feature_maps")
    if own is not None:
        return [
            figures.Maps(layer, np.asarray(values, np.float32), own_scales=True) for layer, values in own(run, inputs)
        ]
    outputs = traverse_util.flatten_dict(_intermediates(run.classifier.module, run.variables, inputs), sep="/")
    found = []
    for row in layers:
        key, shape = f"{row.name}/__call__", row.output_shape
        if row.type != BatchNorm.__name__ and key in outputs and len(shape) == 3 and shape[0] * shape[1] > 1:
            values = jax.tree.leaves(outputs[key])[0]
            found.append(figures.Maps(row.name, np.asarray(values[0], np.float32)))
    outermost = min((maps.layer.count("/") for maps in found), default=0)
    found = [maps for maps in found if maps.layer.count("/") == outermost]
    return [found[i] for i in samples.evenly_spaced(len(found), _LAYERS_SHOWN)]


@functools.partial(jax.jit, static_argnums=0)
def _intermediates(module: nn.Module, variables: PyTree, images: Array) -> PyTree:
    """The output of every module, by its path."""
    _, state = module.apply(variables, images, train=False, capture_intermediates=True, mutable=["intermediates"])
    return state["intermediates"]


def family_pictures(run: Run, test: Source) -> list[Section]:
    """Sections with the pictures of the family's `pictures.py`."""
    draw = _of_family(run, "pictures")
    if draw is None:
        return []
    return [
        Section(_anchor(f"{run.config.model.family} {title}"), title, caption, [Picture(figure, title)])
        for title, caption, figure in draw(run, *pipeline.gather(test, samples.evenly_spaced(len(test), _SAMPLE)))
    ]


def _of_family(run: Run, name: str) -> Callable | None:
    """A function of the family's `pictures.py`, or None if there is none of that name."""
    return getattr(models.optional_module(run.config.model.family, "pictures"), name, None)


def _anchor(text: str) -> str:
    """The text in lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
