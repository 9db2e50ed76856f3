"""LeNet-5's 84 features as 7x12 bitmaps, beside the bitmaps that they should match.

The network is trained to make F6 reproduce a stylized drawing of the class (LeCun 1998, section II-B), so its
features are pictures that show how it redraws each digit that it sees.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine

from common.data.preparation import Stored
from common.report.figures import shortened, show_image
from common.run import trained
from common.run.trained import Run
from lenet.bitmaps import CENTRES, HEIGHT, WIDTH

Features = Float[np.ndarray, "batch 84"]

_TITLE = "What F6 draws"
_CAPTION = (
    "First row: a test image of each class. Second row: F6's 84 outputs for it as a 7x12 bitmap, dark for +1 and light "
    "for -1, above the penalty, their squared distance from the class's fixed bitmap in the third row (equation 7). "
    "Last row: the mean of F6 over the images of the class among {count:,} of the test set."
)
_ROWS = ("test image", "F6 draws", "target", "F6, mean\nof the class")


def pictures(run: Run, images: Stored, labels: Int[np.ndarray, " batch"]) -> list[tuple[str, str, Figure]]:
    """(title, caption, figure) for a report on a run, from some of its test images as stored.

    Empty for networks without RBF outputs, whose features are not drawings.
    """
    if getattr(run.classifier.module, "output", None) != "rbf":
        return []
    figure = drawings(images, features(run, images), labels, run.info.class_names)
    return [(_TITLE, _CAPTION.format(count=len(images)), figure)]


def features(run: Run, images: Stored) -> Features:
    """F6's outputs for stored images."""
    return np.asarray(_features(run.classifier.module, run.variables, trained.network_input(run, jnp.asarray(images))))


@functools.partial(jax.jit, static_argnums=0)
def _features(module: nn.Module, variables: PyTree, images: Array) -> Array:
    _, state = module.apply(variables, images, capture_intermediates=_is_f6, mutable=["intermediates"])
    return state["intermediates"]["F6"]["__call__"][0].astype("float32")


def _is_f6(module: nn.Module, method: str) -> bool:
    return module.name == "F6" and method == "__call__"


def drawings(
    images: Stored, features: Features, labels: Int[np.ndarray, " batch"], class_names: Sequence[str]
) -> Figure:
    """A column for each class: its first image, F6's drawing of it, the class's bitmap, and the mean drawing.

    A class without an image has its bitmap only.
    """
    figure = Figure(figsize=(9.6, 5.6), layout=ConstrainedLayoutEngine(wspace=0.1))
    grid = figure.subplots(4, len(CENTRES), gridspec_kw={"height_ratios": [1, 1.75, 1.75, 1.75]})
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("#d9d9d9")
    for axes, name in zip(grid[:, 0], _ROWS, strict=True):
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    for label, column in enumerate(grid.T):
        column[0].set_title(shortened(class_names[label]), fontsize=12, weight="bold")
        shades = _bitmap(column[2], CENTRES[label])
        members = np.flatnonzero(labels == label)
        if len(members) == 0:
            continue
        example = features[members[0]]
        show_image(column[0], images[members[0]])
        _bitmap(column[1], example)
        column[1].set_xlabel(f"{np.sum((example - CENTRES[label]) ** 2):.1f}", fontsize=9)
        _bitmap(column[3], features[members].mean(0))
    bar = figure.colorbar(shades, ax=grid, label="output of a unit", ticks=[-1, 0, 1], aspect=30, shrink=0.5)
    bar.outline.set_visible(False)
    return figure


def _bitmap(axes: Axes, values: Float[np.ndarray, " 84"]) -> AxesImage:
    """Draws 84 outputs as ink on paper."""
    return axes.imshow(values.reshape(HEIGHT, WIDTH), cmap="Greys", vmin=-1.0, vmax=1.0)
