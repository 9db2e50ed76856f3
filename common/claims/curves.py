"""The learning curves of several experiments in one picture."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from common.claims import charts
from common.run import metrics, workdir

if TYPE_CHECKING:
    import matplotlib.figure  # slow: claims are listed and decided without it

_SMOOTHED = 5  # training records in the moving average


def error_curves(
    folders: Mapping[str, Sequence[pathlib.Path]], in_epochs: bool = False, target: float | None = None
) -> "matplotlib.figure.Figure":
    """The mean error curves of each experiment: training thin and dashed, test bold.

    folders: experiment name -> the folders of its runs (one for each seed), as `Claim.figure` receives them. Drawn
    like Figure 6 of He 2016, over updates, or over epochs with `in_epochs` and if batch sizes differ. target: an error,
    a fraction, to draw as a level line.
    """
    from matplotlib import colormaps

    figure, axes = charts.empty_figure(height=4.6)
    in_epochs = in_epochs or len({workdir.load_config(found[0]).train.batch_size for found in folders.values()}) > 1
    for number, (name, found) in enumerate(folders.items()):
        colour = colormaps["tab10"](number)
        scale = _updates_to_epochs(found[0]) if in_epochs else 1.0
        steps, errors = _mean_curve(found, "train")
        axes.plot(steps * scale, _smooth(errors), color=colour, lw=1.1, ls="--")
        steps, errors = _mean_curve(found, "test")
        alone = "o" if len(steps) == 1 else ""  # a line through one point would not be seen
        axes.plot(steps * scale, errors, color=colour, lw=2.2, marker=alone, label=name)
    if target is not None:
        axes.axhline(100 * target, color="grey", lw=1, ls=":", label=f"{target:.0%}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epochs" if in_epochs else "updates", ylabel="error (% of images)", xlim=(0, None))
    axes.legend(frameon=False, title="test bold, training dashed", alignment="left")
    return figure


def _updates_to_epochs(folder: pathlib.Path) -> float:
    return workdir.load_config(folder).train.batch_size / workdir.load_info(folder).train_size


def _mean_curve(
    folders: Sequence[pathlib.Path], split: str
) -> tuple[Float[np.ndarray, " records"], Float[np.ndarray, " records"]]:
    """The steps that all runs have recorded, and the errors there in per cent, averaged over the runs."""
    curves = [{r["step"]: 100 * r["error"] for r in _whole(metrics.read(folder, split))} for folder in folders]
    steps = sorted(set.intersection(*map(set, curves)))
    return np.array(steps, float), np.array([np.mean([curve[step] for curve in curves]) for step in steps])


def _whole(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records, without a last one of less than half as many images, because the run ended soon after another."""
    rest = len(records) > 1 and 2 * records[-1]["examples"] < records[-2]["examples"]
    return records[:-1] if rest else records


def _smooth(values: Float[np.ndarray, " records"]) -> Float[np.ndarray, " records"]:
    """A moving average; towards the ends its window shrinks on both sides, so that a steep start stays where it is."""
    last = len(values) - 1
    halves = (min(_SMOOTHED // 2, i, last - i) for i in range(len(values)))
    return np.array([values[i - half : i + half + 1].mean() for i, half in enumerate(halves)])
