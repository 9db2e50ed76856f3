"""The loop's benchmark takes configs of every kind: its bare step is built as a run builds its own."""

import importlib

import numpy as np
import pytest
from PIL import Image

from benchmarks import loop, measure
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
