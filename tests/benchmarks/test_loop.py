"""The loop's benchmark takes configs of every kind: its bare step is built as a run builds its own."""

import importlib

import numpy as np
import pytest
from jax.sharding import PartitionSpec
from PIL import Image

from benchmarks import loop, measure
from common.devices.mesh import AXES
from common.training import steps
from tests.slow import rest_slow

# Small networks by config: one for each part of a step that a config adds. Families differ in their losses alone.
SMALL = {
    "resnet_cifar10": {"stage_sizes": (1,), "width": 4},  # normalize=pixels: statistics of the training set
    "lenet5_digits": {},  # a curvature for each parameter
    "vit_digits": {"depth": 1},  # clipped gradients and distorted images
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of four classes of small images, as CIFAR-10's."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(16):
        path = root / ("train" if number % 2 else "test") / f"class{number // 2 % 4}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return root


@pytest.mark.parametrize("name", rest_slow(SMALL))
def test_the_loop_and_its_bare_step_are_timed(name, photographs):
    config = importlib.import_module(f"configs.{name}").get_config()
    config.model.update(SMALL[name])
    if "cifar10" in name:
        config.data.source = f"folder:{photographs}"
    if name == "lenet5_digits":
        config.optimizer.curvature_examples = 16
    config.train.batch_size = 8
    assert loop.bare_step(config, updates=2)() > 0
    assert measure.record_after_compilation(config, updates=2)["images_per_second"] > 0


def test_the_batch_of_the_bare_step_is_split_over_the_devices_as_in_a_run(monkeypatch):
    # If each device computed all of it, the loop would seem faster than its update alone.
    given = []

    def compile_update(*_, **__):
        return lambda state, sums, batches, count: given.append(batches) or (state, sums)

    monkeypatch.setattr(steps, "compile_update", compile_update)
    config = importlib.import_module("configs.lenet5_digits").get_config()
    config.train.update({"batch_size": 8, "steps_per_call": 2})
    loop.bare_step(config, updates=2)()
    images, labels, rows = given[0]
    assert images.sharding.spec == labels.sharding.spec == PartitionSpec()
    assert rows.sharding.spec == PartitionSpec(None, AXES)
    np.testing.assert_array_equal(rows, [range(8)] * 2)
