"""The input benchmark: its JPEGs are as large as ImageNet's, and its feed is a run's."""

import pytest
from PIL import Image

from benchmarks import inputs, torch_inputs
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
    seconds = inputs.feed(inputs.config_of(root, batch_size=4), workers=2)
    found = inputs.race({"ours": seconds}, batch_size=4, workers=2)
    assert len(found["ours"]) == inputs.GROUPS
    assert min(found["ours"]) > 0


def test_sides_take_turns_after_a_first_burst_that_does_not_count():
    asked = []

    def side(name, seconds):
        return lambda count: asked.append((name, count)) or seconds

    found = inputs.race({"ours": side("ours", 0.5), "theirs": side("theirs", 2.0)}, batch_size=10, workers=3)
    assert asked == [("ours", 6), ("theirs", 6)] * (1 + inputs.GROUPS)
    assert found == {"ours": [120.0] * inputs.GROUPS, "theirs": [30.0] * inputs.GROUPS}


@pytest.mark.slow  # starts a process that imports PyTorch
def test_the_loader_of_torch_delivers_batches(root):
    pytest.importorskip("torchvision")
    seconds = torch_inputs.loader(root, batch_size=10, workers=1, crop=32)
    assert seconds(4) > 0  # more than a pass
    with pytest.raises(ValueError, match="larger than the dataset"):
        torch_inputs.loader(root, batch_size=COUNT + 1, workers=1, crop=32)


def test_another_library_is_refused():
    assert "'tensorflow'" in refused("--peers=tensorflow", module="benchmarks.inputs")


def test_a_number_of_threads_that_is_none_is_refused():
    assert "'two'" in refused("--workers=1,two", module="benchmarks.inputs")


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
