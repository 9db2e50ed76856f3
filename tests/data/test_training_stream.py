"""Training images as Grain's threads read them: the same for every start and split, whatever is in the files."""

import json
import pickle
import threading

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from common import config
from common.data import datasets, order, pipeline, sources
from common.data.sources import ArraySource, Example, ImageSource
from common.devices import mesh
from common.errors import UserError
from tests import png_header
from tests.runs import refused, run

LARGE = 512  # rows of a batch
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (40, 56, 3), np.uint8)


def make(folder, **data):
    whole = config.base(ConfigDict({"family": "lenet"}))
    whole.data.update({"source": f"folder:{folder}", "channels": 3, "resize": 20, "crop": 16, "workers": 3, **data})
    whole.train.batch_size = 4
    return whole


@pytest.fixture
def photos(tmp_path):
    """Ten images of two classes, for training and for testing."""
    for split in ("train", "test"):
        for i in range(10):
            path = tmp_path / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(PHOTO, i, axis=0)).save(path)
    return tmp_path


def stream(source, whole, start, steps):
    """The images and labels of `steps` batches from `start` on, through Grain."""
    devices = mesh.make_mesh(ConfigDict({**whole.mesh.to_dict(), "devices": 1}))
    feed = pipeline.StreamedFeed(
        source, devices, start, batch_size=4, seed=whole.seed, shuffle=whole.data.shuffle, workers=whole.data.workers
    )
    batches = [feed.take(start + i, 1, 1) for i in range(steps)]
    return tuple(np.concatenate([np.asarray(jax.device_get(batch[part]))[0] for batch in batches]) for part in (0, 1))


@pytest.mark.parametrize("data", [{"train_crop": "area"}, {"train_crop": "random", "resize_max": 28}])
def test_a_resumed_stream_goes_on_with_the_same_crops(photos, data):
    whole = make(photos, **data)
    source = datasets.load(whole.data).train
    images, labels = stream(source, whole, 0, 6)
    assert images.shape == (24, 16, 16, 3)
    resumed_images, resumed_labels = stream(pickle.loads(pickle.dumps(source)), whole, 4, 2)
    np.testing.assert_array_equal(resumed_images, images[16:])
    np.testing.assert_array_equal(resumed_labels, labels[16:])
    # Another pass over the data sees other parts of the same images.
    assert len({image.tobytes() for image in images}) == 24
    whole.seed = 1
    assert (stream(source, whole, 0, 1)[0] != images[:4]).any()


def test_the_crops_do_not_depend_on_how_many_processes_read(photos):
    whole = make(photos, train_crop="area")
    source = datasets.load(whole.data).train
    together = [pipeline.ShuffledRows(source, 0, "epoch", 4, 0, 4)(position)["image"] for position in range(12)]
    for first in (0, 2):
        part = pipeline.ShuffledRows(source, 0, "epoch", 4, first, 2)
        for position in range(6):
            step, row = divmod(position, 2)
            np.testing.assert_array_equal(part(position)["image"], together[4 * step + first + row])


def test_balanced_batches_are_the_same_in_memory_and_streamed_from_any_step_on(photos):
    for i in range(0, 8, 2):
        (photos / "train" / "a" / f"{i}.png").unlink()
    whole = make(photos)
    one = mesh.make_mesh(ConfigDict({**whole.mesh.to_dict(), "devices": 1}))
    stored, kept = (datasets.load(make(photos, memory=memory).data).train for memory in ("stream", "arrays"))
    assert np.bincount(sources.stored_labels(stored)).tolist() == [1, 5]
    np.testing.assert_array_equal(sources.stored_labels(stored), sources.stored_labels(kept))
    classes, drawn = order.by_class(sources.stored_labels(stored)), {"batch_size": 4, "seed": 0, "shuffle": "epoch"}
    resident, streamed, resumed = (
        pipeline.train_feed(source, one, step, **drawn, workers=2, classes=classes)
        for source, step in ((kept, 0), (stored, 0), (stored, 2))
    )
    seen = []
    for step in range(3):
        feeds = (resident, streamed, resumed)[: 3 if step == 2 else 2]
        batches = [jax.device_get(feed.select(feed.take(step, 1, 1), 0)) for feed in feeds]
        for images, labels in batches[1:]:
            np.testing.assert_array_equal(images, batches[0][0])
            np.testing.assert_array_equal(labels, batches[0][1])
        seen += batches[0][1].tolist()
    assert np.bincount(seen).tolist() == [6, 6]
    for first in (0, 2):  # two processes, of which each reads half of each batch
        part = pipeline.ShuffledRows(stored, 0, "epoch", 4, first, 2, classes)
        assert [int(part(i)["label"]) for i in range(6)] == [seen[4 * (i // 2) + first + i % 2] for i in range(6)]


def test_random_crops_of_sets_that_would_fit_into_memory_are_streamed(photos, data_config, monkeypatch):
    for changes in ({"train_crop": "area"}, {"resize_max": 24}):
        with monkeypatch.context() as limited:
            limited.setattr(sources, "ARRAYS_BYTES", 10 * 16 * 16 * 3)  # of the test set
            dataset = datasets.load(make(photos, **changes).data)
        assert isinstance(dataset.train, ImageSource)
        assert isinstance(dataset.test, ArraySource)
    digits = datasets.load(data_config(crop=6, train_crop="random"))
    assert digits.info.image_shape == digits.test.images.shape[1:] == (6, 6, 1)
    corners = [digits.train.draw(0, np.random.default_rng(i))["image"].tobytes() for i in range(50)]
    assert len(set(corners)) > 4


def test_a_protocols_test_images_are_whole_or_as_fed(photos, data_config):
    plain = make(photos, train_crop="area").data
    fed, whole, larger = (
        datasets.load_test(plain, **how) for how in ({}, {"whole": True}, {"resize": 30, "whole": True})
    )
    assert [source[3]["image"].shape[:2] for source in (fed, whole, larger)] == [(16, 16), (20, 28), (30, 42)]
    np.testing.assert_array_equal(fed[3]["image"], datasets.load(plain).test[3]["image"])
    np.testing.assert_array_equal(whole[3]["image"][2:18, 6:22], fed[3]["image"])
    assert datasets.load_test(plain, resize=30)[3]["image"].shape == (16, 16, 3)
    assert datasets.load_test(data_config(pad=1), resize=12)[0]["image"].shape == (10, 10, 1)
    with pytest.raises(UserError, match=r"too few for a square of config\.data\.crop 16"):
        datasets.load_test(plain, resize=12)[0]


def odd_images():
    """Images that are anything but plain RGB, by file name."""
    big = Image.fromarray(PHOTO)
    return {
        "grey.png": big.convert("L"),
        "cmyk.jpg": big.convert("CMYK"),
        "deep.png": Image.fromarray(RNG.integers(0, 2**16, (30, 30)).astype(np.uint16)),
        "clear.png": big.convert("RGBA"),
        "palette.gif": big.convert("P"),
        "pixel.png": Image.new("RGB", (1, 1), "red"),
        "thin.png": Image.new("RGB", (1, 300), "red"),
    }


def test_odd_images_train(photos):
    for name, image in odd_images().items():
        image.save(photos / "train" / "a" / name)
    Image.new("L", (9, 9), 10).save(
        photos / "train" / "b" / "moving.gif", save_all=True, append_images=[Image.new("L", (9, 9), 200)]
    )
    for data in ({"train_crop": "area"}, {"train_crop": "random", "resize_max": 28}):
        whole = make(photos, **data)
        images, _ = stream(datasets.load(whole.data).train, whole, 0, 5)
        assert images.shape == (20, 16, 16, 3)


def spoil(photos, kind):
    """Makes one training image unreadable and returns its path."""
    path = photos / "train" / "a" / "4.png"
    if kind == "cut short":
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "bomb":
        path.write_bytes(png_header.announcing(20_000, 20_000))
    return path


@pytest.mark.parametrize("kind", ["cut short", "text", "bomb"])
def test_an_unreadable_image_stops_training_by_name_or_is_replaced(photos, kind, caplog):
    path = spoil(photos, kind)
    whole = make(photos, train_crop="area")
    with pytest.raises(UserError, match=str(path)):
        stream(datasets.load(whole.data).train, whole, 0, 3)
    whole.data.skip_bad = True
    caplog.set_level("WARNING", logger="absl")
    source = datasets.load(whole.data).train
    images, labels = stream(source, whole, 0, 6)
    assert [name for name in source.bad if str(path) in name] == list(source.bad)
    told = [record.getMessage() for record in caplog.records if str(path) in record.getMessage()]
    assert len(told) == 1
    assert "unreadable so far: 1" in told[0]
    again, same_labels = stream(pickle.loads(pickle.dumps(source)), whole, 0, 6)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, same_labels)


def test_the_replacement_is_the_next_readable_image_with_its_own_label(photos):
    whole = make(photos, skip_bad=True, memory="stream")
    sound = datasets.load(whole.data).train
    order = sound.records.files
    spoilt = order.index("a/4.png")
    expected = sound[(spoilt + 1) % len(order)]
    spoil(photos, "text")
    for source in (datasets.load(whole.data).train, datasets.load(make(photos, skip_bad=True).data).train):
        np.testing.assert_array_equal(source[spoilt]["image"], expected["image"])
        assert source[spoilt]["label"] == expected["label"]


@pytest.mark.parametrize("memory", ["stream", "arrays"])
def test_bad_test_images_are_left_out_and_counted(photos, memory):
    for name in ("a/0.png", "b/3.png"):
        (photos / "test" / name).write_text("not an image")
    with pytest.raises(UserError, match=r"test/(b/3|a/0)\.png"):
        list(datasets.load(make(photos, memory=memory).data).test)
    whole = make(photos, skip_bad=True, memory=memory, validation="40%")
    dataset = datasets.load(whole.data)
    assert (dataset.info.test_size, len(dataset.test), dataset.info.validation_size) == (8, 8, 4)
    assert "2 of 10 test images cannot be read and are left out" in dataset.notes
    assert sorted(name.split("test/")[1] for name in dataset.bad) == [
        f"{name}' is not an image that Pillow can read; left out of the test set" for name in ("a/0.png", "b/3.png")
    ]
    labels = [int(dataset.test[i]["label"]) for i in range(8)]
    assert np.bincount(labels).tolist() == [4, 4]
    protocol = datasets.load_test(whole.data, whole=True)
    assert [int(protocol[i]["label"]) for i in range(8)] == labels == [int(example["label"]) for example in protocol]


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_split_without_a_readable_image_is_refused(photos, split):
    (photos / "train" / "a" / "8.png").rename(photos / "8.png")
    (photos / "test").rename(photos / split)
    for path in (photos / split).rglob("*.png"):
        path.write_text("not an image")
    name = {"test": "test", "val": "validation"}[split]
    with pytest.raises(UserError, match=f"none of the 10 {name} images can be read; the first: .*{split}/[ab]/"):
        datasets.load(make(photos, skip_bad=True, validation="val" if split == "val" else "").data)


def test_a_folder_without_a_readable_image_has_no_size(photos):
    for path in photos.rglob("*.png"):
        path.write_text("not an image")
    with pytest.raises(UserError, match="none of the images can be read"):
        datasets.load(make(photos, skip_bad=True, crop=0, resize=0).data)


def test_a_set_without_a_readable_image_is_refused(photos):
    for path in (photos / "train").rglob("*.png"):
        path.write_text("not an image")
    with pytest.raises(UserError, match="none of the 10 training images can be read"):
        datasets.load(make(photos, skip_bad=True).data)


COMMAND = ("--config=configs/resnet_cifar10.py:resnet20", "--config.data.train_crop=area", "--config.data.crop=16")


@pytest.mark.slow
def test_the_command_measures_what_a_streamed_run_asks_for(photos, tmp_path):
    source, workdir = f"--config.data.source=folder:{photos}", f"--workdir={tmp_path / 'run'}"
    assert "python -m common.statistics --workdir=" in refused(*COMMAND, source, workdir)
    for path in (photos / "test").rglob("*.png"):  # the statistics are those of training images alone
        path.write_text("not an image")
    code, output, errors = run(*COMMAND, source, workdir, module="common.statistics")
    assert code == 0, errors
    assert "10 images of 16 x 16 x 3" in output
    assert (tmp_path / "run" / "statistics.npz").exists()
    (tmp_path / "run" / "checkpoints" / "1").mkdir(parents=True)
    before = (tmp_path / "run" / "statistics.npz").read_bytes()
    for option in (workdir, f"--config.data.statistics={tmp_path}/run/statistics.npz"):
        said = refused(*COMMAND, source, option, module="common.statistics")
        assert "statistics.npz belongs to a run that has begun with it" in said
    assert (tmp_path / "run" / "statistics.npz").read_bytes() == before
    assert "config.data.crop is 16, more than config.data.resize 8" in refused(
        *COMMAND, source, workdir, "--config.data.resize=8"
    )


def test_statistics_that_cannot_be_written_are_refused_before_the_images_are_read():
    options = ("--config.data.source=folder:/nowhere", "--config.data.statistics=/dev/null/statistics.npz")
    said = refused(*COMMAND, *options, module="common.statistics")
    assert "cannot write /dev/null/statistics.npz: Not a directory" in said


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["stream", "arrays"])
def test_a_finished_run_lists_what_it_skipped(photos, tmp_path, memory):
    path = spoil(photos, "text")
    code, output, errors = run(
        f"--config=configs/folder.py:lenet:mlp:{photos}",
        "--config.data.skip_bad=True",
        f"--config.data.memory={memory}",
        "--config.data.crop=28",
        "--config.data.normalize=range",
        "--config.augment.crop_pad=0",
        "--config.train.batch_size=5",
        "--config.train.length=3steps",
        "--config.schedule.warmup=0steps",
        f"--workdir={tmp_path / 'run'}",
    )
    assert code == 0, errors
    assert "images that could not be read: 1;" in output
    (said,) = json.loads((tmp_path / "run" / "summary.json").read_text())["skipped_images"]
    assert str(path) in said


@pytest.mark.parametrize(("batch_size", "sizes"), [(1000, [10]), (4, [4, 4, 4])])
def test_test_batches_cover_all_examples_and_are_no_larger_than_the_test_set(photos, batch_size, sizes):
    whole = make(photos)
    one = mesh.make_mesh(ConfigDict({**whole.mesh.to_dict(), "devices": 1}))
    test = datasets.load(whole.data).test
    batches = list(pipeline.eval_batches(test, batch_size, one))
    assert [len(labels) for _, labels, _ in batches] == sizes
    seen = np.concatenate([np.asarray(labels)[np.asarray(mask)] for _, labels, mask in batches])
    np.testing.assert_array_equal(seen, pipeline.gather(test, np.arange(10))[1])


class Counted:
    """Examples of one pixel that tell when one far ahead is read."""

    def __init__(self):
        self.far = threading.Event()

    def __len__(self):
        return 100_000

    def __getitem__(self, index):
        if index >= 4 * LARGE:
            self.far.set()
        return Example(image=np.full((1, 1, 1), index % 256, np.uint8), label=np.int32(index))


def test_many_threads_hold_a_few_batches_between_them_and_not_a_few_each():
    source, one = Counted(), mesh.make_mesh(ConfigDict({"devices": 1, "fsdp": 1}))
    feed = pipeline.train_feed(source, one, 0, batch_size=LARGE, seed=0, shuffle="none", workers=8)
    images, labels = jax.device_get(feed.take(0, 1, 2))
    np.testing.assert_array_equal(labels, [range(LARGE)] * 2)  # the batch again where there is room for two
    np.testing.assert_array_equal(images[..., 0, 0, 0], labels % 256)
    assert not source.far.wait(0.5)
