"""The cost of the training loop: the speed of the whole loop over that of its compiled step alone.

    python -m benchmarks.loop --config=configs/lenet5_mnist_modern.py --config.data.directory=DIR

The step runs on one batch that is already on the device, with as many updates in a call as the loop has. Both are
measured in turn, several times. The ratio compares neighbouring measurements, so that slow minutes affect both alike.
Writes results/benchmark_loop*.json.
"""

import functools
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from benchmarks.measure import define_place, device_name, record, record_after_compilation, spread
from common import launch
from common.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    launch.define_config()
    flags.DEFINE_integer("steps", 469, "updates in one measurement; default: a pass over MNIST", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "measurements of each side", lower_bound=2)
    define_place("out", "results", "folder of the result")


def main() -> None:
    """Measures both in turn and writes the result."""
    config = flags.FLAGS.config
    if config is None:
        raise UserError("--config is missing; for example --config=configs/lenet5_digits.py")
    from common import config_checks  # slow imports, once the flags are known to be right

    config_checks.validate(config)
    bare_speeds, loop_speeds = [], []
    bare = bare_step(config, flags.FLAGS.steps)
    for _ in range(flags.FLAGS.rounds):
        bare_speeds.append(bare())
        loop_speeds.append(record_after_compilation(config, flags.FLAGS.steps)["images_per_second"])
    ratios = [loop / bare for loop, bare in zip(loop_speeds, bare_speeds, strict=True)]
    measured = {
        "bare compiled step, images/s": spread(bare_speeds),
        "whole loop, images/s": spread(loop_speeds),
        "whole loop over bare step": spread(ratios),
    }
    file = f"benchmark_loop_{launch.config_name()}_{device_name()}.json"
    name = f"loop, {launch.config_name()}, batch {config.train.batch_size}"
    record(pathlib.Path(flags.FLAGS.out) / file, name, measured)


def bare_step(config: "ConfigDict", updates: int) -> Callable[[], float]:
    """A function that makes at least `updates` compiled updates on one resident batch and returns images a second."""
    import jax
    import numpy as np

    from common import models
    from common.data import augment, datasets, pipeline, pixel_statistics, sources
    from common.devices import mesh as mesh_lib
    from common.devices import sharding
    from common.nn.losses import balanced_weights
    from common.optim.optimizers import make_optimizer
    from common.optim.plan import make_plan
    from common.run import threads
    from common.training.state import create_state
    from common.training.steps import compile_update, step_options
    from common.training.totals import no_totals

    dataset = datasets.load(config.data)
    classifier = models.make_classifier(config.model, dataset.info)
    mesh = threads.make_mesh(config, classifier)
    optimizer, _ = make_optimizer(config, len(dataset.train))
    with tempfile.TemporaryDirectory() as folder:
        statistics = pixel_statistics.for_training(config, pathlib.Path(folder), dataset.train)
    many = make_plan(config, len(dataset.train)).with_per_call(pipeline.is_resident(dataset.train)).per_call
    size = config.train.batch_size
    images, labels = pipeline.gather(dataset.train, np.arange(size) % len(dataset.train))
    # As in a run: every device has the images, and each picks its own part of a batch.
    rows = mesh_lib.place(np.tile(np.arange(size, dtype=np.int32), (many, 1)), mesh_lib.batched(mesh, axis=1))
    batches = (*mesh_lib.replicate((images, labels), mesh), rows)
    fixed = {
        "classifier": classifier,
        "optimizer": optimizer,
        "transform": augment.make_input_transform(config.data, config.augment, statistics),
        **step_options(config),
    }
    if config.train.class_weights:
        fixed["class_weights"] = balanced_weights(sources.stored_labels(dataset.train), dataset.info.num_classes)
    step = compile_update(pipeline.ResidentFeed.select, mesh, **fixed)
    fresh = functools.partial(create_state, classifier, optimizer, config.seed, config.optimizer.ema > 0)

    def measure() -> float:
        with sharding.split_activations(mesh):
            carry = step(sharding.make_sharded(fresh, mesh), mesh_lib.replicate(no_totals(), mesh), batches, many)
            jax.block_until_ready(carry)
            calls = -(-updates // many)
            started = time.perf_counter()
            for _ in range(calls):
                carry = step(*carry, batches, many)
            jax.block_until_ready(carry)
            return calls * many * size / (time.perf_counter() - started)

    return measure


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
