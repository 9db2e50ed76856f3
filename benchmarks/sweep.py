"""Training speed against batch, image size, depth and devices: `python -m benchmarks.sweep [--scale=smoke]`.

Measures the images a second of an update (forward, backward, momentum) whose batch is already on the device: in
bfloat16 on an accelerator, in float32 and with smaller batches on a CPU. The points that tell most come first, and each
result is written at once. The same command continues a sweep that has stopped, for example because its `--minutes` were
over. Writes results/benchmark_sweep_DEVICE.json and a picture of the same name.
"""

import contextlib
import functools
import gc
import io
import pathlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags

from benchmarks import networks
from benchmarks.measure import Measured, define_place, device_name, record, spread
from benchmarks.sweep_points import SCALES, Axes, Point, axes_of, coarse_to_fine
from common import launch
from common.errors import UserError, count_of, first_line

if TYPE_CHECKING:  # slow imports come after the flags
    import jax
    from matplotlib.figure import Figure


GROUPS = 3  # measurements of a point
SECONDS = {"full": 0.5, "cpu": 0.5, "smoke": 0.02}  # of one of these measurements, about


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_enum("scale", None, SCALES, "size of the networks; default: cpu on a CPU, else full; smoke is a test")
    flags.DEFINE_float("minutes", 60.0, "time after which no further point begins", lower_bound=0.0)
    define_place("out", "results", "folder of the results")


def main() -> None:
    """Measures the points that the results lack, in the time that the flags allow, and draws the picture."""
    import jax

    ends = time.monotonic() + 60 * flags.FLAGS.minutes
    scale = flags.FLAGS.scale or ("cpu" if jax.default_backend() == "cpu" else "full")
    smoke = "smoke_" if scale == "smoke" else ""
    path = pathlib.Path(flags.FLAGS.out) / f"benchmark_sweep_{smoke}{device_name()}.json"
    axes = axes_of(scale, jax.local_device_count())
    measure = functools.partial(images_per_second, group_seconds=SECONDS[scale])
    result = sweep(axes, path, measure, ends, f"python -m benchmarks.sweep --scale={scale}")
    if result["measured"]:
        draw(axes, result, path.with_suffix(".png"))


def sweep(
    axes: Axes, path: pathlib.Path, measure: Callable[[Point], dict[str, float]], ends: float, command: str
) -> dict[str, Any]:
    """Measures the points that the file of results lacks, and writes it after each; returns its content.

    measure: returns the median, lowest and highest images a second of a point. ends: the `time.monotonic()` at which
    the time is up. No point begins that would end later if it took as long as the slowest so far. Points that do not
    fit in the device's memory are listed under `does_not_fit`. Other failures are under `failed`, and are tried again.
    Raises UserError if the file has another machine's results.
    """
    import jax

    from common.run import workdir

    result = workdir.read_json(path) if path.exists() else {"measured": {}, "does_not_fit": [], "failed": {}}
    here, there = workdir.environment(), result.get("environment", {})
    for fact in ("devices", "cpu", "cpu_cores"):
        if there.get(fact, here[fact]) != here[fact]:
            raise UserError(
                f"{path} has results of '{there[fact]}', and this is '{here[fact]}': give another --out, or move it"
            )
    points = coarse_to_fine(axes)
    dtype = points[0].dtype
    left = [point for point in points if point.name not in {*result["measured"], *result["does_not_fit"]}]
    devices = count_of(jax.local_device_count(), "local device")
    print(f"{len(points) - len(left)} of {len(points)} points are there; {devices}")
    slowest = 0.0
    for number, point in enumerate(left):
        started = time.monotonic()
        if started + slowest >= ends:
            print(f"time is up; the same command measures the {count_of(len(left) - number, 'point')} left")
            break
        said = _add(result, point, measure)
        gc.collect()  # arrays that an error's traceback has kept
        jax.clear_caches()
        slowest = max(slowest, time.monotonic() - started)
        print(f"{point.name}: {said}, after {time.monotonic() - started:.1f} s", flush=True)
        facts = {key: result[key] for key in ("does_not_fit", "failed")} | {"local_devices": jax.local_device_count()}
        measured = _in_order(axes, result["measured"])
        with contextlib.redirect_stdout(io.StringIO()):  # it would print all results each time
            record(path, f"training speed in {dtype}", measured, command, **facts)
        result = workdir.read_json(path)
    return result


def _add(result: dict[str, Any], point: Point, measure: Callable[[Point], dict[str, float]]) -> str:
    """Measures a point and adds it to the result; returns a phrase about it."""
    result["failed"].pop(point.name, None)
    try:
        result["measured"][point.name] = found = measure(point)
    except Exception as error:  # noqa: BLE001  a device may lack one operation
        if "RESOURCE_EXHAUSTED" in str(error):
            result["does_not_fit"].append(point.name)
            return "does not fit"
        result["failed"][point.name] = reason = first_line(error)
        return f"failed ({reason})"
    return f"{found['median']:,.0f} ({found['low']:,.0f} to {found['high']:,.0f})"


def _in_order(axes: Axes, measured: Measured) -> Measured:
    """The measurements in the order of the axes, followed by those of points that no axis has any more."""
    names = [point.name for lines in axes.values() for line in lines for point in line]
    return {name: measured[name] for name in (*names, *measured) if name in measured}


def images_per_second(point: Point, group_seconds: float = 0.5) -> dict[str, float]:
    """The median, lowest and highest images a second of several groups of updates.

    A group takes about `group_seconds`. The host waits for the device only at the end of a group, as in training.
    """
    import jax

    from common.devices import sharding

    step, state, images, labels = _update(point)

    def seconds(count: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for _ in range(count):
            state, _ = step(state, images, labels)
        jax.block_until_ready(state)
        return time.perf_counter() - started

    with sharding.split_activations(_mesh(point)):
        seconds(1)  # compiles it
        seconds(2)
        count = max(1, round(group_seconds / (seconds(2) / 2)))
        return spread([count * point.batch / seconds(count) for _ in range(GROUPS)])


def _mesh(point: Point) -> "jax.sharding.Mesh":
    from ml_collections import ConfigDict

    from common.devices import mesh

    return mesh.make_mesh(ConfigDict({"devices": point.devices, "fsdp": point.devices if point.sharded else 1}))


def _update(point: Point) -> tuple[Callable, Any, "jax.Array", "jax.Array"]:
    """The update of a point, not compiled yet, whose state is donated; its first state, images and labels."""
    import jax
    import jax.numpy as jnp
    import optax

    from common.devices import compilation, sharding
    from common.devices import mesh as mesh_lib
    from common.training.state import create_state
    from common.training.steps import train_step

    mesh, shape = _mesh(point), (point.batch, point.side, point.side, 3)
    _, classifier = networks.build(point.family, point.variant, point.side, dtype=point.dtype)
    optimizer = optax.sgd(0.01, momentum=0.9)
    fixed = {"classifier": classifier, "optimizer": optimizer, "transform": lambda _, images: images}

    def update(state: Any, images: jax.Array, labels: jax.Array) -> tuple:
        state, totals = train_step(state, images, labels, **fixed)
        return sharding.constrain(state, mesh), totals

    def batch() -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(jax.random.key(0))
        return jax.random.normal(keys[0], shape), jax.random.randint(keys[1], shape[:1], 0, networks.CLASSES)

    state = sharding.make_sharded(functools.partial(create_state, classifier, optimizer, 0), mesh)
    images, labels = jax.jit(batch, out_shardings=mesh_lib.batched(mesh))()
    return compilation.jit(update, donate_argnums=0), state, images, jnp.asarray(labels, jnp.int32)


def draw(axes: Axes, result: dict[str, Any], path: pathlib.Path) -> "Figure":
    """Draws and writes a panel for each axis, with the medians and spreads in the result; returns the figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    from common.files import whole_file

    figure = Figure(figsize=(4.6 * len(axes), 4.4), layout="constrained")
    for panel, (axis, lines) in zip(figure.subplots(1, len(axes), squeeze=False)[0], axes.items(), strict=True):
        panel.set(title=_title(axis, lines), ylabel="images a second", yscale="log")
        for line, colour in zip(lines, COLOURS, strict=False):
            _draw_line(panel, axis, line, result, colour)
        if axis == "depth":
            panel.tick_params("x", rotation=90)
        else:
            panel.set(xlabel=LABELS[axis], xscale="log")
            panel.set_xticks(*[sorted({_place(axis, point) for line in lines for point in line})] * 2)
            panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.grid(True, color="#e6e6e6", lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{result['benchmark']} on {result['environment']['devices']}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
    return figure


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's
LABELS = {"batch": "images in a batch", "image size": "side of the images, pixels", "devices": "devices"}


def _place(axis: str, point: Point) -> int | str:
    """The place of a point along an axis."""
    return {"batch": point.batch, "image size": point.side, "depth": point.variant, "devices": point.devices}[axis]


def _title(axis: str, lines: list[list[Point]]) -> str:
    """The axis, and what all its points have in common."""
    first = lines[0][0]
    same = {"image size": f"batch {first.batch}", "depth": f"batch {first.batch} at {first.side} pixels"}
    same |= {"batch": f"at {first.side} pixels", "devices": f"{first.batch} images a device at {first.side} pixels"}
    return f"{axis} ({same[axis]})"


def _draw_line(panel: Any, axis: str, line: list[Point], result: dict[str, Any], colour: str) -> None:
    """Draws the measured points of a line; the legend names those that do not fit in memory."""
    done = [point for point in line if point.name in result["measured"]]
    found = [result["measured"][point.name] for point in done]
    medians = [one["median"] for one in found]
    spans = [[one["median"] - one["low"] for one in found], [one["high"] - one["median"] for one in found]]
    network = line[0].network
    label = {"depth": line[0].family, "devices": f"{network}, {line[-1].layout}"}.get(axis, network)
    if over := [str(_place(axis, point)) for point in line if point.name in result["does_not_fit"]]:
        label += f" ({', '.join(over)} does not fit)"
    places = [_place(axis, point) for point in done]
    panel.errorbar(places, medians, spans, label=label, color=colour, marker="o", ms=4, lw=1.5, capsize=2)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
