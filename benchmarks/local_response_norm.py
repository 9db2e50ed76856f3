"""The speed of local response normalisation: `python -m benchmarks.local_response_norm`.

Compares our function with the usual implementations on the maps of AlexNet's conv1 and conv2, without and with the
gradient. The candidates take turns, round after round, so that other work on the machine affects them all alike. Writes
results/benchmark_local_response_norm_*.json.
"""

import functools
import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array

from benchmarks.measure import Measured, define_place, device_name, record, spread
from common import launch
from common.nn.layers import local_response_norm

MAPS = {"conv1": (55, 55, 96), "conv2": (27, 27, 256)}


def _with_window(window_sum: Callable[[Array], Array], x: Array) -> Array:
    """The equation as printed, differentiated by JAX."""
    return x / (2.0 + 1e-4 * window_sum(x * x)) ** 0.75


def _slices(squares: Array) -> Array:
    padded = jnp.pad(squares, [(0, 0)] * 3 + [(2, 2)])
    return sum(padded[..., i : i + squares.shape[-1]] for i in range(5))


def _reduce_window(squares: Array) -> Array:
    window, padding = (1, 1, 1, 5), [(0, 0)] * 3 + [(2, 2)]
    return jax.lax.reduce_window(squares, 0.0, jax.lax.add, window, (1, 1, 1, 1), padding)


def _cumulative(squares: Array) -> Array:
    sums = jnp.cumsum(jnp.pad(squares, [(0, 0)] * 3 + [(3, 2)]), axis=-1)
    return sums[..., 5:] - sums[..., :-5]


def _banded_product(squares: Array) -> Array:
    channels = np.arange(squares.shape[-1])
    band = np.abs(channels[:, None] - channels) <= 2
    return squares @ band.astype(np.float32)


CANDIDATES: dict[str, Callable[[Array], Array]] = {
    "ours": local_response_norm,
    "naive: slices": functools.partial(_with_window, _slices),
    "naive: reduce_window": functools.partial(_with_window, _reduce_window),
    "naive: cumulative sum": functools.partial(_with_window, _cumulative),
    "naive: banded product": functools.partial(_with_window, _banded_product),
}


def measure(batch: int, rounds: int) -> Measured:
    """The milliseconds of each candidate by maps and direction, and their ratios to ours in the same round."""
    return {
        name: values
        for maps, shape in MAPS.items()
        for direction in ("forward", "forward and backward")
        for name, values in _interleaved(f"{maps}, {direction}", (batch, *shape), rounds).items()
    }


def _interleaved(title: str, shape: tuple[int, ...], rounds: int) -> Measured:
    x, cotangent = (100 * jax.random.normal(jax.random.key(seed), shape) for seed in range(2))
    calls = {}
    for candidate, function in CANDIDATES.items():
        if title.endswith("backward"):
            calls[candidate] = functools.partial(jax.jit(functools.partial(_both, function)), x, cotangent)
        else:
            calls[candidate] = functools.partial(jax.jit(function), x)
        jax.block_until_ready(calls[candidate]())
    times = {candidate: [] for candidate in calls}
    for _ in range(rounds):
        for candidate, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[candidate].append(1000 * (time.perf_counter() - start))
    found = {f"{title}: {candidate}, ms": spread(values) for candidate, values in times.items()}
    for candidate, values in times.items():
        if candidate != "ours":
            ratios = [theirs / ours for theirs, ours in zip(values, times["ours"], strict=True)]
            found[f"{title}: {candidate} over ours"] = spread(ratios)
    return found


def _both(function: Callable[[Array], Array], x: Array, cotangent: Array) -> tuple[Array, Array]:
    outputs, pullback = jax.vjp(function, x)
    return outputs, pullback(cotangent)[0]


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_integer("batch", 16, "images in a batch", lower_bound=1)
    flags.DEFINE_integer("rounds", 15, "measurements of each candidate", lower_bound=2)
    define_place("out", "results", "folder of the result")


def main() -> None:
    """Measures and writes the result."""
    measured = measure(flags.FLAGS.batch, flags.FLAGS.rounds)
    name = f"local response normalisation, {flags.FLAGS.batch} images"
    record(pathlib.Path(flags.FLAGS.out) / f"benchmark_local_response_norm_{device_name()}.json", name, measured)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
