"""The cost of the training loop: images per second of the whole loop over those of the bare compiled step.

    python -m benchmarks.loop --config=configs/lenet5_mnist_modern.py --config.data.directory=DIR

The bare step runs on one batch that is already on the device. Both are measured in turn, several times. The ratio
compares neighbouring measurements, so that slow minutes affect both alike. Writes results/benchmark_loop.json.
"""

import functools
import pathlib
import tempfile
import time
from collections.abc import Callable

from absl import flags

from benchmarks.measure import record, spread
from common import launch

_CONFIG = launch.define_config()
_STEPS = flags.DEFINE_integer("steps", 469, "updates in one measurement; default: a pass over MNIST", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "measurements of each side", lower_bound=2)
_OUT = flags.DEFINE_string("out", "results/benchmark_loop.json", "file of the result")


def main() -> None:
    """Measures both in turn and writes the result."""
    config = _CONFIG.value
    bare_speeds, loop_speeds = [], []
    bare = _bare_step(config)
    for _ in range(_ROUNDS.value):
        bare_speeds.append(bare())
        loop_speeds.append(_whole_loop(config))
    ratios = [loop / bare for loop, bare in zip(loop_speeds, bare_speeds, strict=True)]
    measured = {
        "bare compiled step, images/s": spread(bare_speeds),
        "whole loop, images/s": spread(loop_speeds),
        "whole loop over bare step": spread(ratios),
    }
    command = f"python -m benchmarks.loop --config=configs/{launch.config_name()}.py"
    name = f"loop, {launch.config_name()}, batch {config.train.batch_size}"
    record(pathlib.Path(_OUT.value), name, measured, command)


def _bare_step(config) -> Callable[[], float]:
    """A function that times the compiled update on one resident batch, in images per second."""
    import jax

    from common import models
    from common.data import augment, datasets, pipeline
    from common.devices import compilation
    from common.optim.optimizers import make_optimizer
    from common.training.state import create_state
    from common.training.steps import recipe, train_step

    dataset = datasets.load(config.data)
    classifier = models.make_classifier(config.model, dataset.info)
    optimizer, _ = make_optimizer(config, len(dataset.train))
    transform = augment.make_input_transform(config.data, config.augment)
    fixed = {"classifier": classifier, "optimizer": optimizer, "transform": transform, **recipe(config)}
    step = compilation.jit(functools.partial(train_step, **fixed), donate_argnums=0)
    images, labels = jax.device_put(pipeline.gather(dataset.train, list(range(config.train.batch_size))))

    def measure() -> float:
        state, _ = step(create_state(classifier, optimizer, config.seed, config.optimizer.ema > 0), images, labels)
        jax.block_until_ready(state)
        started = time.perf_counter()
        for _ in range(_STEPS.value):
            state, _ = step(state, images, labels)
        jax.block_until_ready(state)
        return _STEPS.value * config.train.batch_size / (time.perf_counter() - started)

    return measure


def _whole_loop(config) -> float:
    """Images per second that `fit` reports for its second half (the first includes compilation)."""
    from common import train
    from common.run import metrics

    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.train.length = f"{2 * _STEPS.value} steps"
        config.train.log_every = f"{_STEPS.value} steps"
        config.evaluate.every = config.checkpoint.every = config.train.length
        config.schedule.warmup = "0 steps"
    with tempfile.TemporaryDirectory() as folder:
        train.fit(config, pathlib.Path(folder))
        return metrics.read(pathlib.Path(folder), "train")[-1]["images_per_second"]


if __name__ == "__main__":
    launch.run(main)
