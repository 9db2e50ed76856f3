"""Pictures of single layers: corners, convolution, sub-sampling, receptive fields, normalisation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke

from common.anatomy import networks
from common.devices import pooling
from common.errors import count_of
from common.nn import batch_norm
from common.report.figures import GREY, TEST
from googlenet import model as googlenet
from lecture.pictures.style import MARK, numbers, outline, panels, plain, titled
from lenet import layers
from vgg import facts

_SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)  # bright on the right, dark on the left
_WINDOW = 6  # pixels on each side of the middle, for the gradients around a point


def digit() -> Float[np.ndarray, "8 8"]:
    """The first of scikit-learn's digits, with ink from 0 to 16."""
    from sklearn import datasets

    return datasets.load_digits().images[0].astype(np.float32)


def corners() -> Figure:
    """Gradients in a flat window, on an edge and at a corner of a photograph, with the eigenvalues of their tensor."""
    import skimage.data  # needs the extra `classic`, as the next import does

    from classic import corners as measures

    image = skimage.data.camera()[90:250, 170:330].astype(np.float32) / 255
    tensor = measures.structure_tensor(image, sigma=3.0, derivative_sigma=0.0)  # of the gradients that are drawn
    values, response = measures.eigenvalues(tensor), measures.harris(tensor)
    inside = np.zeros_like(response, bool)
    inside[12:-12, 12:-12] = True
    places = {
        "flat": np.where(inside, values[..., 0], np.inf).argmin(),
        "edge": np.where(inside, response, np.inf).argmin(),
        "corner": np.where(inside, response, -np.inf).argmax(),
    }
    gradients = np.stack(np.gradient(image), axis=-1)
    figure, grid = panels(4, height=3.3)
    grid[0].imshow(image, cmap="gray")
    grid[0].set_axis_off()
    titled(grid[0], "image")
    reach = 0.55
    for axes, (name, place) in zip(grid[1:], places.items(), strict=True):
        y, x = divmod(int(place), image.shape[1])
        outline(grid[0], y - _WINDOW, x - _WINDOW, 2 * _WINDOW + 1, 2 * _WINDOW + 1)
        label = grid[0].text(x, y - _WINDOW - 4, name, color=MARK, fontsize=9, ha="center", weight="bold")
        label.set_path_effects([withStroke(linewidth=3, foreground="white")])
        window = gradients[y - _WINDOW : y + _WINDOW + 1, x - _WINDOW : x + _WINDOW + 1].reshape(-1, 2)
        axes.scatter(window[:, 1], window[:, 0], s=7, color=TEST, alpha=0.6, lw=0)
        lengths, directions = np.linalg.eigh([[tensor.yy[y, x], tensor.xy[y, x]], [tensor.xy[y, x], tensor.xx[y, x]]])
        turn = np.degrees(np.arctan2(directions[0, 1], directions[1, 1]))
        axes.add_patch(Ellipse((0, 0), *(4 * np.sqrt(lengths[::-1])), angle=turn, fill=False, ec=MARK, lw=1.8))
        large, small = 1000 * values[y, x]
        titled(
            axes,
            name,
            f"λ₁ = {large:.1f}, λ₂ = {small:.1f}\nHarris {1e6 * response[y, x]:.0f}".replace("-", "\N{MINUS SIGN}"),
        )
        axes.set(xlim=(-reach, reach), ylim=(reach, -reach), xticks=[0], yticks=[0], aspect="equal")
        axes.text(reach, 0, "dx", fontsize=9, color=GREY, va="bottom", ha="right")
        axes.text(0, reach, " dy", fontsize=9, color=GREY, va="bottom")
        plain(axes)
        axes.tick_params(labelsize=8)
    return figure


def convolution() -> Figure:
    """A digit, a kernel and their correlation, with every number, and one output computed by hand."""
    image = digit()
    maps = layers.convolve(jnp.asarray(image)[None, :, :, None], jnp.asarray(_SOBEL)[:, :, None, None])
    output = np.asarray(maps)[0, :, :, 0]
    row, column = 2, 1
    window = image[row : row + 3, column : column + 3]
    terms = [f"{k:.0f}×{x:.0f}" for k, x in zip(_SOBEL.ravel(), window.ravel(), strict=True) if k]
    sum_of = " + ".join(terms).replace("+ -", "\N{MINUS SIGN} ").replace("-", "\N{MINUS SIGN}")
    figure, grid = panels(3, height=3.7, width_ratios=[8, 3.6, 6.6])
    numbers(grid[0], image)
    outline(grid[0], row, column, 3, 3)
    titled(grid[0], "image, 8×8")
    numbers(grid[1], _SOBEL, cmap="RdBu_r", vmin=-4, vmax=4)
    titled(grid[1], "kernel, 3×3")
    numbers(grid[2], output, cmap="RdBu_r", vmin=-70, vmax=70)
    outline(grid[2], row, column, 1, 1)
    titled(grid[2], "map, 8 − 3 + 1 = 6 on each side")
    figure.supxlabel(f"{sum_of} = {output[row, column]:.0f}".replace("= -", "= \N{MINUS SIGN}"), fontsize=10)
    return figure


def subsampling() -> Figure:
    """A digit, the mean of each block of four pixels, and their maximum; then the same after a shift by one pixel."""
    figure, grid = panels(3, height=6.2, width=8.6, rows=2, width_ratios=[2, 1.15, 1.15])
    for row, image in enumerate((digit(), np.roll(digit(), 1, axis=1))):
        stored = jnp.asarray(image)[None, :, :, None]
        mean = np.asarray(pooling.blocks_of_fours(stored, jnp.add))[0, :, :, 0] / 4
        largest = np.asarray(pooling.blocks_of_fours(stored, jnp.maximum))[0, :, :, 0]
        numbers(grid[row, 0], image)
        outline(grid[row, 0], 2, 2, 2, 2)
        numbers(grid[row, 1], mean, "{:g}")
        outline(grid[row, 1], 1, 1, 1, 1)
        numbers(grid[row, 2], largest)
        outline(grid[row, 2], 1, 1, 1, 1)
        titled(grid[row, 0], ("image", "the same, one pixel to the right")[row])
        titled(grid[row, 1], "mean of four")
        titled(grid[row, 2], "largest of four")
    return figure


def receptive_fields() -> Figure:
    """Stacks of one, two and three 3x3 layers: the paths from each pixel of the image to one output."""
    figure, grid = panels(3, height=3.6)
    for axes, depth in zip(grid, (1, 2, 3), strict=True):
        sizes = (3,) * depth
        numbers(axes, paths(depth), cmap="Blues", vmax=9 ** (depth - 1) * (1 if depth == 1 else 0.9) + 1)
        field, stack, one = facts.field(*sizes), facts.weights(*sizes), facts.weights(facts.field(*sizes))
        outline(axes, 4 - field // 2, 4 - field // 2, field, field)
        below = f"{stack:.0f} C² weights" + (f"; one {field}×{field} layer has {one:.0f} C²" if depth > 1 else "")
        titled(axes, f"{count_of(depth, 'layer')} of 3×3: {field}×{field} pixels", below)
    return figure


def paths(depth: int) -> Int[np.ndarray, "9 9"]:
    """The number of paths from each of 9x9 pixels through `depth` 3x3 layers to the middle output.

    It equals the gradient of that output if all weights are one.
    """
    stack, image = facts.Stack((3,) * depth), jnp.zeros((1, 9, 9, 1))
    ones = jax.tree.map(jnp.ones_like, stack.init(jax.random.key(0), image))

    def middle(pixels: Float[Array, "1 9 9 1"]) -> Float[Array, ""]:
        maps: Any = stack.apply(ones, pixels)
        return maps[0, 4, 4, 0]

    gradient = jax.jit(jax.grad(middle))(image)
    return np.asarray(gradient[0, :, :, 0]).round().astype(int)


def inception() -> Figure:
    """The multiply-adds of GoogLeNet's modules, beside those of the same modules without their 1x1 reductions."""
    figure, (axes,) = panels(1, width=8.6, height=3.2)
    costs = inception_costs()
    places = np.arange(len(costs))
    for shift, label, colour in ((-0.2, "Inception module", TEST), (0.2, "without its 1×1 reductions", "#cccccc")):
        heights = [cost[int(shift > 0)] / 1e6 for cost in costs.values()]
        bars = axes.bar(places + shift, heights, 0.38, color=colour, label=label)
        axes.bar_label(bars, fmt="{:.0f}", fontsize=9)
    axes.set_xticks(places, costs)
    axes.set_ylabel("million multiply-adds")
    axes.margins(y=0.1)
    axes.legend(frameon=False)
    titled(axes, "", "module")
    plain(axes)
    return figure


def inception_costs() -> dict[str, tuple[int, int]]:
    """The multiply-adds of each of GoogLeNet's modules, and those without the reductions before 3x3 and 5x5 kernels."""
    rows, costs = networks.rows("googlenet", "googlenet"), {}
    maps = rows["conv2"].output_shape[-1]
    for name, (one, _, three, _, five, pool_proj) in googlenet.MODULES.items():
        row = rows[f"inception_{name}"]
        height, width, outputs = row.output_shape
        costs[name] = row.multiply_adds, height * width * maps * (one + 9 * three + 25 * five + pool_proj)
        maps = outputs
    return costs


def normalisation_axes() -> Figure:
    """The inputs that one normalised output depends on, for batch and for layer normalisation."""
    kinds: dict[str, Any] = {
        "batch normalisation": batch_norm.BatchNorm(),
        "layer normalisation": nn.LayerNorm(),
    }
    figure, grid = panels(2, height=3.9, width=8.0)
    for axes, (name, layer) in zip(grid, kinds.items(), strict=True):
        found = influence(layer)
        axes.imshow(found.reshape(-1, found.shape[-1]), cmap="Blues", vmin=0, vmax=1.8, aspect="auto")
        outline(axes, 4 + 1, 2, 1, 1)
        for edge in (3.5, 7.5):
            axes.axhline(edge, color=GREY, lw=1.5)
        axes.set_xticks([])
        axes.set_yticks([1.5, 5.5, 9.5], [f"example {number}" for number in range(3)])
        axes.set_xticks(np.arange(0.5, 5), minor=True)
        axes.set_yticks(np.arange(0.5, 11), minor=True)
        axes.grid(True, which="minor", color="white", lw=1.5)
        axes.tick_params(which="both", length=0)
        titled(axes, name, "channels")
    return figure


def influence(layer: nn.Module) -> Int[np.ndarray, "3 2 2 6"]:
    """1 for each input that one output, example 1, position (0, 1), channel 2, depends on; else 0.

    layer: a normalisation, applied as in training.
    """
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2, 6)), jnp.float32)
    train: dict[str, Any] = {"train": True} if isinstance(layer, batch_norm.BatchNorm) else {}

    def output(x: Float[Array, "3 2 2 6"]) -> Float[Array, ""]:
        normalised: Any = layer.init_with_output(jax.random.key(0), x, **train)[0]
        return normalised[1, 0, 1, 2]

    return np.asarray(jnp.abs(jax.jit(jax.grad(output))(x)) > 1e-6).astype(int)
