"""Speed of the input pipeline with JPEGs of ImageNet's size: `python -m benchmarks.inputs [--peers=torch] [--train]`.

Writes synthetic JPEGs into a temporary folder, opens it with the preparation of `configs/resnet_imagenet_modern.py`,
and times the feed of a run alone, for several numbers of threads: reading, decoding, random crops, resizing, stacking
and the copy to the device. The files were just written, so the disk hardly counts. --peers=torch races PyTorch's
DataLoader with torchvision's usual transforms, in turn with ours, with as many processes as we have threads. With
--train it first times a run of ResNet-50 on these files, and the run's update alone. The largest number of threads is
measured first. Writes results/benchmark_inputs_DEVICE.json after each measurement.
"""

import functools
import io
import multiprocessing
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from PIL import Image

from benchmarks.measure import (
    Measured,
    define_place,
    device_name,
    record,
    record_after_compilation,
    spread,
    whole_numbers,
)
from benchmarks.racing import peers, race, torch_inputs
from common import launch
from common.devices import host
from common.errors import UserError

if TYPE_CHECKING:  # slow imports come after the flags
    from ml_collections import ConfigDict

    from benchmarks.sweep_points import Point

WIDTH, HEIGHT = 500, 375  # pixels, of a typical image of ImageNet
QUALITY = 93  # of the JPEGs; they then have 110 kB, as ImageNet's
CLASSES = 10
GROUPS = 3  # measurements of each number of threads
LIBRARIES = {"torch": ("torchvision", "peers")}
VARIANT = "resnet50_modern"  # that --train trains


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_integer("images", 2000, "JPEGs that are written", lower_bound=200)
    flags.DEFINE_list("workers", [], "numbers of threads; default: 1, 4, 8, 16, ... up to the number of cores")
    flags.DEFINE_integer("batch_size", 128, "images in a batch", lower_bound=2)
    flags.DEFINE_list("peers", [], "libraries to race against: torch")
    flags.DEFINE_bool("train", False, "also time a run of ResNet-50 in bfloat16, and its update alone")
    flags.DEFINE_integer("updates", 100, "updates of the run that are timed, after as many", lower_bound=1)
    flags.DEFINE_float("minutes", 10.0, "time after which no further measurement begins", lower_bound=0.0)
    define_place("out", "results", "folder of the results")


def main() -> None:
    """Writes the images, and measures what the flags ask for until the time is up."""
    from common.run import workdir

    race.share_device()
    ends = time.monotonic() + 60 * flags.FLAGS.minutes
    facts = workdir.environment()
    counts = thread_counts(facts["cpu_cores"], flags.FLAGS.workers)
    peers.check(flags.FLAGS.peers, LIBRARIES)
    if flags.FLAGS.peers and flags.FLAGS.batch_size > flags.FLAGS.images:
        raise UserError(
            f"--batch_size={flags.FLAGS.batch_size} is more than --images={flags.FLAGS.images}; PyTorch's loader makes "
            "no batch then, since it never joins two passes over the images"
        )
    versions = peers.versions(("torch", "torchvision") if flags.FLAGS.peers else ())
    device = device_name()
    path = pathlib.Path(flags.FLAGS.out) / f"benchmark_inputs_{device}.json"
    measured: Measured = {}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        size = write_images(root, flags.FLAGS.images) / flags.FLAGS.images
        print(f"{flags.FLAGS.images} JPEGs of {size / 1e3:.0f} kB, {WIDTH} x {HEIGHT} pixels")
        options = {"batch_size": flags.FLAGS.batch_size, "cores": facts["cpu_cores"]}
        tasks = [functools.partial(_fed, root, workers=count, **options) for count in counts]
        if flags.FLAGS.train:
            tasks.insert(0, functools.partial(_trained, config_of(root, flags.FLAGS.batch_size), counts[0]))
        for number, task in enumerate(tasks):
            if time.monotonic() >= ends:
                print(f"time is up; {len(tasks) - number} of {len(tasks)} measurements are left out")
                break
            measured |= task()
            record(path, f"input pipeline, JPEGs of {size / 1e3:.0f} kB", measured, peers=versions)


def thread_counts(cores: int, given: Sequence[str]) -> list[int]:
    """The numbers of threads to measure, the largest first: the given ones, or else numbers up to that of cores."""
    if not given:
        return sorted({count for count in (1, 4, 8, 16, 32, 64) if count <= cores} | {cores}, reverse=True)
    return sorted(whole_numbers("workers", given), reverse=True)


def write_images(root: pathlib.Path, count: int) -> int:
    """Writes JPEGs, the same every time, into ROOT/<class>/; returns their bytes. The classes have equal sizes."""
    for label in range(CLASSES):
        (root / f"class{label}").mkdir()
    with futures.ThreadPoolExecutor(host.cores()) as pool:
        return sum(pool.map(functools.partial(_write_image, root), range(count)))


def _write_image(root: pathlib.Path, number: int) -> int:
    """Writes an image of random colours that change smoothly, with finer detail and noise; returns its bytes."""
    rng = np.random.default_rng(number)
    scene = _smooth(rng, 8, 6, 60.0) + 0.5 * _smooth(rng, 64, 48, 40.0) - 64.0
    scene += 16.0 * rng.standard_normal(scene.shape, np.float32)
    stored = io.BytesIO()
    Image.fromarray(scene.clip(0, 255).astype(np.uint8)).save(stored, "JPEG", quality=QUALITY)
    return (root / f"class{number % CLASSES}" / f"{number}.jpg").write_bytes(stored.getvalue())


def _smooth(rng: np.random.Generator, columns: int, rows: int, deviation: float) -> np.ndarray:
    """An image of the full size, interpolated between a few random colours with mean 128."""
    colours = rng.normal(128.0, deviation, (rows, columns, 3)).clip(0, 255).astype(np.uint8)
    large = Image.fromarray(colours).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float32)


def config_of(root: pathlib.Path, batch_size: int) -> "ConfigDict":
    """The recipe for ImageNet, with the images in a folder and this batch."""
    from configs import resnet_imagenet_modern

    config = resnet_imagenet_modern.get_config(VARIANT)
    config.data.source = f"folder:{root}"
    config.data.holdout = 0.01  # one or two images of a class, which are not measured
    config.train.batch_size = batch_size
    return config


def feed(root: pathlib.Path, batch_size: int, workers: int) -> Callable[[int], float]:
    """A function that takes n batches from a run's feed and returns the seconds until the device has them."""
    import jax

    from common.data import datasets, pipeline
    from common.devices import mesh as mesh_lib

    config = config_of(root, batch_size)
    options = {"batch_size": batch_size, "seed": config.seed, "shuffle": config.data.shuffle}
    source, mesh = datasets.open_dataset(config.data).train, mesh_lib.make_mesh(config.mesh)
    batches = pipeline.train_feed(source, mesh, 0, workers=workers, **options)
    step = 0

    def seconds(count: int) -> float:
        nonlocal step
        started = time.perf_counter()
        for _ in range(count):
            jax.block_until_ready(batches.take(step, 1, 1))
            step += 1
        return time.perf_counter() - started

    return seconds


SIDES = {"feed": feed, "torch": torch_inputs.loader}


def images_per_second(side: str, root: pathlib.Path, batch_size: int, workers: int) -> float:
    """The speed of one of `SIDES`, whose first batches do not count."""
    seconds = SIDES[side](root, batch_size, workers)
    # Each of PyTorch's workers makes a whole batch, so batches come in bursts, one from each worker.
    seconds(2 * workers)
    speed = 4 * workers * batch_size / seconds(4 * workers)
    del seconds  # so that PyTorch ends its processes before this one ends
    return speed


def in_turn(sides: Sequence[str], root: pathlib.Path, batch_size: int, workers: int) -> dict[str, list[float]]:
    """The `images_per_second` of each side, `GROUPS` times in turn.

    Each measurement is a process of its own: both sides read ahead, so one would work while the other is timed.
    """
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(GROUPS):
        for side in sides:
            with futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                found[side].append(pool.submit(images_per_second, side, root, batch_size, workers).result())
    return found


def _fed(root: pathlib.Path, batch_size: int, workers: int, cores: int) -> Measured:
    """The speed of the feed, in all and per core, and that of each peer with as many processes as we have threads."""
    names = {"feed": "feed alone", "torch": "torch's loader"}
    found = in_turn(["feed", *flags.FLAGS.peers], root, batch_size, workers)
    at, used = f"{workers} worker{'s' * (workers > 1)}", min(workers, cores)
    measured = {}
    for side, speeds in found.items():
        measured[f"{names[side]}, {at}, images/s"] = spread(speeds)
        measured[f"{names[side]}, {at}, images/s a core"] = spread([speed / used for speed in speeds])
    for peer in flags.FLAGS.peers:
        ratios = [our / their for our, their in zip(found["feed"], found[peer], strict=True)]
        measured[f"feed over {names[peer]}, {at}"] = spread(ratios)
    return measured


def _trained(config: "ConfigDict", workers: int) -> Measured:
    """The speed of a run that reads the images, and that of the same network's update alone."""
    from benchmarks import sweep

    loop = whole_loop(config, workers, flags.FLAGS.updates)
    return {
        f"whole loop of {VARIANT}, {workers} threads, images/s": spread([loop["images_per_second"]]),
        f"whole loop of {VARIANT}, share of the time spent waiting for data": spread([loop["data_wait"]]),
        f"update of {VARIANT} alone, images/s": sweep.images_per_second(update_of(config)),
    }


def update_of(config: "ConfigDict") -> "Point":
    """The update of a run as a point of the sweep: on as many devices as the run, each with its part of the batch."""
    import jax

    from benchmarks.sweep_points import Point

    devices = config.mesh.devices or jax.device_count()
    return Point("resnet", VARIANT, config.train.batch_size, config.data.crop, devices)


def whole_loop(config: "ConfigDict", workers: int, updates: int) -> dict[str, Any]:
    """The training record of a run that reads with `workers` threads; see `record_after_compilation`."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.workers = workers
    return record_after_compilation(config, updates)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
