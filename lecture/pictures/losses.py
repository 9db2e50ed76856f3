"""Pictures of outputs, losses, non-linearities and augmentation."""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy import special

from alexnet import cifar
from common.data import transforms
from common.nn import losses
from common.report.figures import GREY, INK, TEST, TRAIN
from lecture.pictures.style import MARK, panels, plain, titled
from lenet import layers
from lenet.bitmaps import CENTRES, HEIGHT, WIDTH

_RESULT = pathlib.Path(__file__).parents[2] / "results" / "alexnet-relu-vs-tanh.json"


def rbf() -> Figure:
    """The bitmaps of LeNet-5's output layer, and each one's penalty for a perfect drawing of another."""
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=[1.15, 1])
    left, right = parts
    for label, axes in enumerate(left.subplots(2, 5).flat):
        axes.imshow(CENTRES[label].reshape(HEIGHT, WIDTH), cmap="Greys", vmin=-1, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("#bdbdbd")
        titled(axes, f"{label}")
    penalties = np.asarray(layers.rbf_penalties(jnp.asarray(CENTRES), jnp.asarray(CENTRES)))
    axes = right.subplots()
    axes.imshow(penalties, cmap="Blues", vmax=1.3 * penalties.max())
    for (row, column), value in np.ndenumerate(penalties):
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=INK)
    axes.set(xticks=range(10), yticks=range(10), ylabel="digit that F6 draws")
    axes.tick_params(length=0)
    titled(axes, "penalty", "class")
    return figure


def cross_entropy() -> Figure:
    """The information of an event, cross-entropy against a wrong belief, and the gradient p - y."""
    figure, grid = panels(3, height=3.1)
    p = np.linspace(0.01, 1, 200)
    grid[0].plot(p, -np.log2(p), color=TEST)
    for chance in (1 / 2, 1 / 4, 1 / 8):
        grid[0].plot(chance, -np.log2(chance), "o", color=MARK)
        grid[0].annotate(f"  p = 1/{1 / chance:.0f}: {-np.log2(chance):.0f}", (chance, -np.log2(chance)), fontsize=9)
    grid[0].set(ylabel="bits", ylim=(0, 7))
    titled(grid[0], "information, −log₂ p", "probability of the event")
    truth, belief = 0.8, np.linspace(0.02, 0.98, 97)
    logits = jnp.log(jnp.stack([jnp.asarray(belief), 1 - jnp.asarray(belief)], -1))
    cross = losses.cross_entropy(logits, jnp.tile(jnp.array([truth, 1 - truth]), (len(belief), 1))) / np.log(2)
    entropy = float(special.entr([truth, 1 - truth]).sum() / np.log(2))
    grid[1].plot(belief, cross, color=TEST, label="H(p, q)")
    grid[1].axhline(entropy, color=GREY, ls="--", lw=1.2, label="H(p)")
    grid[1].plot(truth, entropy, "o", color=MARK)
    grid[1].set(ylim=(0, 4))
    grid[1].legend(frameon=False)
    titled(grid[1], f"cross-entropy, p = {truth}", "belief q")
    scores, label = jnp.array([[2.0, 1.0, -1.0, 0.5]]), jnp.array([1])
    gradient = jax.grad(lambda z: losses.cross_entropy(z, label).sum())(scores)[0]
    places = np.arange(4)
    grid[2].bar(places - 0.2, jax.nn.softmax(scores)[0], 0.38, color=TEST, label="p = softmax(z)")
    grid[2].bar(places + 0.2, gradient, 0.38, color=TRAIN, label="dL/dz = p − y")
    grid[2].axhline(0, color=INK, lw=0.8)
    names = [f"{place}{', true' if place == label[0] else ''}" for place in places]
    grid[2].set_xticks(places, names)
    grid[2].set(ylim=(-0.9, 1.1))
    grid[2].legend(frameon=False, fontsize=9)
    titled(grid[2], "gradient", "class")
    for axes in grid:
        plain(axes)
    return figure


def activations() -> Figure:
    """ReLU and tanh, their slopes, and the epochs that a network took with each on CIFAR-10 (recorded)."""
    figure, grid = panels(3, height=3.1)
    a = jnp.linspace(-4, 4, 401)
    for name, colour in (("ReLU", TEST), ("tanh", TRAIN)):
        function = cifar.ACTIVATIONS[name.lower()]  # those that the network was trained with
        grid[0].plot(a, function(a), color=colour, label=name)
        grid[1].plot(a, jax.vmap(jax.grad(function))(a), color=colour)
    grid[0].legend(frameon=False, fontsize=9)
    titled(grid[0], "f(a)", "a")
    titled(grid[1], "slope f′(a)", "a")
    result = json.loads(_RESULT.read_text())
    for place, name in enumerate(("ReLU", "tanh")):
        ours, theirs = result["ours"][name], result["paper"][name]
        grid[2].bar(place - 0.2, ours["mean"], 0.38, color=(TEST, TRAIN)[place])
        grid[2].bar(place + 0.2, theirs, 0.38, color="#cccccc", label="paper" if place else "")
        epochs = f"{'over ' if ours['at_least'] else ''}{ours['mean']:.2g}"
        grid[2].text(place - 0.2, ours["mean"], epochs, ha="center", va="bottom", fontsize=9)
    grid[2].set_xticks([0, 1], ["ReLU", "tanh"])
    grid[2].set(ylim=(0, 47))
    grid[2].legend(frameon=False, fontsize=9)
    titled(grid[2], "epochs to 25% training error", "CIFAR-10, four layers")
    for axes in grid:
        plain(axes)
    return figure


def augmentation() -> Figure:
    """A photograph as AlexNet saw it: random crops, reflections, and changes of the colour of the light.

    The colours vary five times as much as in the author's code, so that the change shows.
    """
    import skimage.data  # needs the extra `classic`

    photo = jnp.asarray(skimage.data.chelsea()[:300:3, 50:350:3], jnp.float32)  # 100x100
    variances, directions = np.linalg.eigh(np.cov(photo.reshape(-1, 3).T))
    flips, colours = jax.random.split(jax.random.key(1))
    corners = np.random.default_rng(1).integers(0, 13, (4, 2))
    crops = jnp.stack([photo[y : y + 88, x : x + 88] for y, x in corners])
    mirrored = transforms.mirror(flips, crops)
    seen = {
        "crops": crops,
        "+ reflections": mirrored,
        "+ colours": transforms.shift_colours(colours, mirrored, 0.5, directions * np.sqrt(variances)),
    }
    figure, grid = panels(4, width=4.2, height=3.1, rows=3)
    for row, (name, images) in zip(grid, seen.items(), strict=True):
        for axes, image in zip(row, images, strict=True):
            axes.imshow(np.clip(image / 255, 0, 1))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name, fontsize=10, weight="bold", color=INK)
    return figure
