"""The kernels of AlexNet's conv1, drawn separately for each of the two columns."""

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from common.data.preparation import Stored
from common.report.figures import GREY, INK, draw_filters, filter_grid
from common.run.trained import Run

_TITLE = "Two columns"
_CAPTION = (
    "Kernels of conv1, the first column's above the second's, each on its own scale; zero is grey. The paper finds "
    "that one column's kernels are largely colour-agnostic and the other's largely colour-specific, whatever the "
    "initial weights (section 6.1, Figure 3). Colourfulness is the share of a kernel's squared weights that remains "
    "when the mean over the three colours is subtracted: 0 for grey kernels, about two thirds for random ones."
)


def pictures(run: Run, images: Stored, labels: Int[np.ndarray, " batch"]) -> list[tuple[str, str, Figure]]:
    """(title, caption, figure) for a report; none for networks with one column or grey images."""
    if getattr(run.classifier.module, "columns", 1) == 1 or run.classifier.input_shape[-1] != 3:
        return []
    kernel = np.asarray(run.variables["params"]["conv1"]["kernel"], np.float32)
    return [(_TITLE, _CAPTION, columns(kernel, run.classifier.module.columns))]


def columns(kernel: Float[np.ndarray, "height width 3 filters"], count: int) -> Figure:
    """The kernels of each column, under its name and their median colourfulness."""
    parts = np.split(kernel, count, axis=-1)
    rows, across = filter_grid(parts[0].shape[-1])
    cell = 8.4 / max(across, 6)
    figure = Figure(figsize=(cell * across + 1.0, count * (cell * rows + 0.45)), layout="constrained")
    panels = figure.subfigures(count, 1, squeeze=False)[:, 0]
    for number, (panel, part) in enumerate(zip(panels, parts, strict=True), start=1):
        draw_filters(panel, part)
        panel.suptitle(f"column {number}", x=0.01, ha="left", fontsize=11, weight="bold", color=INK)
        median = f"colourfulness {np.median(colourfulness(part)):.2f} (median)"
        panel.text(0.99, 0.985, median, ha="right", va="top", fontsize=9.5, color=GREY)
    return figure


def colourfulness(kernel: Float[np.ndarray, "height width 3 filters"]) -> Float[np.ndarray, " filters"]:
    """The share of each kernel's squared weights that differs between the colours, 0 to 1."""
    colour = kernel - kernel.mean(2, keepdims=True)
    return (colour**2).sum((0, 1, 2)) / np.maximum((kernel**2).sum((0, 1, 2)), np.finfo(np.float32).tiny)
