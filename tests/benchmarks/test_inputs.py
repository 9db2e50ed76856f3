"""The input benchmark: its JPEGs are as large as ImageNet's, and its feed is a run's."""

import jax
import pytest
from PIL import Image

from benchmarks import inputs
from benchmarks.racing import torch_inputs
from tests.runs import refused

COUNT = 30


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jpegs")
    assert inputs.write_images(folder, COUNT) == sum(path.stat().st_size for path in folder.glob("*/*.jpg"))
    return folder


def test_images_are_as_large_as_those_of_imagenet_and_the_same_every_time(root, tmp_path):
    files = sorted(root.glob("*/*.jpg"))
    assert len(files) == COUNT
    assert all(100_000 < path.stat().st_size < 120_000 for path in files)
    with Image.open(files[0]) as image:
        assert image.size == (500, 375)
    assert len({path.read_bytes() for path in files}) == COUNT
    inputs.write_images(tmp_path, 10)
    again = sorted(tmp_path.glob("*/*.jpg"))
    assert all(path.read_bytes() == (root / path.relative_to(tmp_path)).read_bytes() for path in again)


def test_the_feed_of_the_recipe_is_timed(root):
    assert inputs.images_per_second("feed", root, batch_size=4, workers=2) > 0


def test_the_first_batches_do_not_count(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setitem(inputs.SIDES, "feed", lambda *_: lambda count: asked.append(count) or 0.5)
    assert inputs.images_per_second("feed", tmp_path, batch_size=10, workers=3) == 240.0
    assert asked == [6, 12]


@pytest.mark.slow  # starts processes that import JAX and PyTorch
def test_sides_take_turns_in_processes_of_their_own(root):
    pytest.importorskip("torchvision")
    found = inputs.in_turn(["feed", "torch"], root, batch_size=4, workers=1)
    assert all(len(speeds) == inputs.GROUPS and min(speeds) > 0 for speeds in found.values())
    with pytest.raises(ValueError, match="larger than the dataset"):
        torch_inputs.loader(root, batch_size=COUNT + 1, workers=1)


def test_the_largest_number_of_threads_is_measured_first():
    # The time may be up before the others.
    assert inputs.thread_counts(16, []) == [16, 8, 4, 1]
    assert inputs.thread_counts(6, []) == [6, 4, 1]
    assert inputs.thread_counts(6, ["2", "12"]) == [12, 2]


def test_another_library_is_refused():
    assert "'tensorflow'" in refused("--peers=tensorflow", module="benchmarks.inputs")


def test_an_invalid_number_of_threads_is_refused():
    assert "'two'" in refused("--workers=1,two", module="benchmarks.inputs")


def test_the_update_alone_is_that_of_the_run_on_all_its_devices(root, monkeypatch):
    config = inputs.config_of(root, batch_size=32)
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    point = inputs.update_of(config)
    assert (point.batch, point.side, point.devices, point.dtype) == (32, config.data.crop, 8, config.model.dtype)
    config.mesh.devices = 2
    assert inputs.update_of(config).devices == 2


@pytest.mark.slow  # trains
@pytest.mark.timeout(300)
def test_a_run_on_the_images_reports_its_speed(root):
    config = inputs.config_of(root, batch_size=2)
    with config.unlocked():
        config.model.update(stage_sizes=(1,), width=8)
        config.data.crop = 32
    record = inputs.whole_loop(config, workers=1, updates=2)
    assert record["step"] == 4
    assert record["images_per_second"] > 0
    assert 0 <= record["data_wait"] <= 1
