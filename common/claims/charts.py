"""Pictures of recorded numbers, drawn from result files alone.

The file of a picture also stores the numbers that it shows, so that a picture of older results is noticed.
"""

import json
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.claims.verdicts import LEVEL
from common.files import whole_file

if TYPE_CHECKING:
    import matplotlib.figure  # slow, and most commands draw nothing

Result = Mapping[str, Any]

_NUMBERS = "numbers"  # key of the text in a picture
_OURS, _PAPER = "#1f77b4", "#d62728"


def is_current(path: pathlib.Path, results: Sequence[Result]) -> bool:
    """True if `path` is a picture of these results' numbers."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.info.get(_NUMBERS) == _numbers(results)
    except OSError:  # there is no picture, or a damaged one
        return False


def write(
    path: pathlib.Path,
    results: Sequence[Result],
    draw: Callable[[Sequence[Result]], "matplotlib.figure.Figure"],
) -> None:
    """Draws results into a PNG file."""
    with whole_file(path) as file:
        draw(results).savefig(file, format="png", dpi=110, metadata={_NUMBERS: _numbers(results)})


def error_against(quantity: str) -> Callable[[Sequence[Result]], "matplotlib.figure.Figure"]:
    """A picture of one result: each seed's error, and their mean, against the number in its run's name.

    quantity: the numbers in the names, such as 'training digits' for runs '15,000' and '60,000'.
    """

    def draw(results: Sequence[Result]) -> "matplotlib.figure.Figure":
        figure, axes = empty_figure(height=3.6)
        [result] = results
        seeds = [(number_in(name), 100 * value) for name, values in result["values"].items() for value in values]
        axes.plot(*zip(*seeds, strict=True), "o", color=_OURS, alpha=0.4, label="ours, each seed")
        places = [number_in(name) for name in result["ours"]]
        means = [100 * ours["mean"] for ours in result["ours"].values()]
        axes.plot(places, means, color=_OURS, lw=2, label="ours, mean")
        theirs = {name: number for name, number in result["paper"].items() if name in result["ours"]}
        if theirs:
            axes.plot([*map(number_in, theirs)], [100 * x for x in theirs.values()], "D-", color=_PAPER, label="paper")
        axes.legend(frameon=False)
        axes.update_datalim([(0, 0)])  # margins are shares of the whole axes, so that no point is cut
        axes.autoscale_view()
        axes.set(xlabel=quantity, ylabel="test error (%)", xlim=(0, None), ylim=(0, None))
        axes.set_xticks(places, [f"{place:,}" for place in places])
        return figure

    return draw


def paper_and_ours(results: Sequence[Result]) -> "matplotlib.figure.Figure":
    """A picture of claims with one number each: the paper's number, ours, and the interval of the difference.

    The interval is that of the claim's rule. It covers the spread of our seeds and, if the rule says so, the test
    set's. A number of one seed has none.
    """
    from matplotlib import ticker

    figure, axes = empty_figure(height=1.2 + 0.36 * len(results))
    for place, result in enumerate(results):
        [(name, number)] = result["paper"].items()
        [rule] = result["rules"]
        ends = [100 * (number + rule[end]) for end in ("low", "high") if rule[end] is not None]
        bar = "" if place else f"{LEVEL:.0%} interval of the difference"
        axes.plot(ends, [place] * len(ends), color=_OURS, lw=2.5, alpha=0.5, solid_capstyle="butt", label=bar)
        axes.plot(100 * result["ours"][name]["mean"], place, "o", color=_OURS, label="" if place else "ours")
        axes.plot(100 * number, place, "D", color=_PAPER, mfc="none", label="" if place else "paper")
    axes.set_yticks(range(len(results)), [f"{result['claim']}: {result['verdict']}" for result in results])
    axes.invert_yaxis()
    axes.set(xlabel="test error (%), logarithmic", xscale="log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.legend(frameon=False)
    return figure


def number_in(name: str) -> int:
    """The number in the name of a run: 15,000 in '15,000', 56 in 'ResNet-56'. Raises ValueError if there is none."""
    return int(re.sub(r"\D", "", name))


def empty_figure(height: float) -> tuple["matplotlib.figure.Figure", Any]:
    """A figure as wide as a page and `height` inches high, and its only axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(True, color="#e6e6e6", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _numbers(results: Sequence[Result]) -> str:
    """All that a picture shows of some results, as text."""
    shown = ("claim", "paper", "values", "rules", "verdict")
    return json.dumps([{key: result[key] for key in shown} for result in results], sort_keys=True)
