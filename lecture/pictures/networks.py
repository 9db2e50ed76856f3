"""Pictures of whole pipelines and networks, which are trained on digits first."""

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy import special

from common.data import datasets, pipeline
from common.report.figures import GREY, INK, TEST, TRAIN, show_image
from common.run import trained as runs
from lecture import trainings
from lecture.pictures.style import MARK, panels, plain, titled
from vit import analysis
from vit import pictures as vit_pictures

_WORDS = 40  # of the vocabulary, few enough to be told apart
_SHOWN, _HEADS = 5, 4


def classic_pipeline(folder: pathlib.Path) -> Figure:
    """A digit on its way through a pipeline: SIFT keypoints, histogram of visual words, scores of the classes."""
    from classic import pictures, saved  # these need the extra `classic`
    from classic import pipeline as classic
    from classic import train as classic_train
    from classic.descriptors import sift
    from configs import classic_digits

    config = classic_digits.get_config("sparse_sift")
    config.encode.words = _WORDS
    place = folder / "classic"
    classic_train.fit(config, place)
    fitted = saved.load(place)
    images, labels = pipeline.gather(datasets.load_test(config.data, known=fitted.info), np.arange(50))
    features = classic.features(fitted.config, fitted.arrays["encode"], images)
    scores = classic.scores_of_features(fitted, features)
    shown = int(np.flatnonzero((labels == 4) & (scores.argmax(-1) == labels))[0])
    figure, grid = panels(4, height=2.9, width_ratios=[1, 1, 1.6, 1.3])
    show_image(grid[0], images[shown])
    titled(grid[0], "input")
    options = fitted.config.describe
    large = pictures.enlarged(images[shown][None], options.scale)[0]
    show_image(grid[1], large)
    for point in sift.keypoints(images[shown], options):
        circle = np.linspace(0, 2 * np.pi, 60)
        radius = point.size / 2
        grid[1].plot(point.x + radius * np.cos(circle), point.y + radius * np.sin(circle), color=MARK, lw=1.2)
    grid[1].set(xlim=(-0.5, large.shape[1] - 0.5), ylim=(large.shape[0] - 0.5, -0.5))
    titled(grid[1], "SIFT keypoints")
    grid[2].bar(range(_WORDS), features[shown], color=TEST)
    titled(grid[2], "encoder: histogram of words", f"visual words, {_WORDS}")
    grid[3].bar(range(10), scores[shown], color=[MARK if c == labels[shown] else TEST for c in range(10)])
    grid[3].axhline(0, color=INK, lw=0.8)
    grid[3].set_xticks(range(10))
    titled(grid[3], "decoder: scores", "class; the highest is the output")
    for axes in grid[2:]:
        plain(axes)
        axes.set_yticks([])
    return figure


def plain_and_residual(folder: pathlib.Path) -> Figure:
    """Training curves of a plain network, of a deeper one, and of the deeper one with shortcuts."""
    figure, (axes,) = panels(1, width=6.4, height=3.6)
    for (kind, blocks), style in zip(trainings.COMPARED, ("--", "-", "-"), strict=True):
        run = trainings.trained(trainings.twin(kind, blocks), folder / f"{kind}{blocks}")
        colour = {"plain": TRAIN, "residual": TEST}[kind]
        axes.plot(*trainings.training_curve(run), color=colour, ls=style, lw=2, label=trainings.name(kind, blocks))
    axes.set(ylabel="training error (%)", ylim=(0, 100), xlim=(0, None))
    axes.legend(frameon=False)
    titled(axes, "", "updates of 64 digits")
    plain(axes)
    return figure


def attention(folder: pathlib.Path) -> Figure:
    """Digits, the attention of each head of the last block to their patches, and one head's whole matrix."""
    run = runs.load(trainings.trained(trainings.transformer(), folder / "vit"))
    test = datasets.load_test(run.config.data, known=run.info)
    images, labels = pipeline.gather(test, np.arange(60))
    chosen = vit_pictures.one_of_each(labels)[:_SHOWN]
    weights = analysis.attention_of_run(run, images[chosen])[-1]  # of the last block
    grid = run.classifier.module.grid(images.shape[1:3])
    maps = np.asarray(analysis.pooled_attention(jnp.asarray(weights), grid))
    figure = Figure(figsize=(8.6, 5.2), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=[1.25, 1])
    left, right = parts
    axes = left.subplots(_SHOWN, 1 + _HEADS)
    for row, image, heads in zip(axes, images[chosen], maps, strict=True):
        show_image(row[0], image)
        for cell, values in zip(row[1:], heads[:_HEADS], strict=False):
            cell.imshow(values, cmap="inferno", vmin=0)
            cell.set_axis_off()
    titled(axes[0, 0], "image")
    for number, cell in enumerate(axes[0, 1 : 1 + len(maps[0])]):
        titled(cell, f"head {number}")
    matrix = right.subplots()
    spread = special.entr(weights).sum(-1).mean(-1)  # the entropy of the rows: low where a head is selective
    picked, head = np.unravel_index(spread.argmin(), spread.shape)
    matrix.imshow(weights[picked, head], cmap="inferno", vmin=0)
    matrix.set(xticks=[], yticks=[])
    matrix.set_ylabel("patch that asks (query)", fontsize=9, color=GREY)
    titled(
        matrix, f"softmax(QKᵀ/√d) of head {head} for image {picked + 1}", "patch that is looked at (key); rows sum to 1"
    )
    return figure
