"""Parquet files and WebDataset's tar files, with the same images."""

import io
import json
import pathlib
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from common.data import datasets
from common.errors import UserError

NAMES = ["cat", "dog"]


def encoded(value: int, mode: str = "RGB") -> bytes:
    """A PNG of 6 x 4 pixels of that value."""
    file = io.BytesIO()
    kind = np.uint16 if mode == "I;16" else np.uint8
    Image.fromarray(np.full((4, 6, 3) if mode == "RGB" else (4, 6), value, kind)).save(file, "png")
    return file.getvalue()


# What Hugging Face's library writes into the schema's metadata.
FEATURES = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}


def write_parquet(path: pathlib.Path, examples: list[tuple[bytes, object]], features=FEATURES) -> None:
    images = [{"bytes": image, "path": f"{i}.png"} for i, (image, _) in enumerate(examples)]
    table = pa.table({"image": images, "label": [label for _, label in examples]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=4)


def write_tar(path: pathlib.Path, examples: list[tuple[bytes, object]]) -> None:
    members = [
        (f"./{i:04}.{s}", c)
        for i, (image, label) in enumerate(examples)
        for s, c in (("png", image), ("cls", str(label).encode()))
    ]
    write_members(path, dict(members))


def write_members(path: pathlib.Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


KINDS = {"parquet": (write_parquet, "parquet"), "webdataset": (write_tar, "tar")}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def write(kind, tmp_path):
    """Writes a shard below tmp_path/animals whose images have these values; odd ones are of dogs."""

    def shard(name: str, values, mode: str = "RGB", labels=None, images=None) -> pathlib.Path:
        writer, suffix = KINDS[kind]
        path = tmp_path / "animals" / f"{name}.{suffix}"
        images = images or [encoded(value, mode) for value in values]
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "webdataset":
            (tmp_path / "animals" / "classnames.txt").write_text("\n".join(NAMES) + "\n")
        writer(path, list(zip(images, labels or [value % 2 for value in values], strict=True)))
        return path

    return shard


@pytest.fixture
def load(kind, tmp_path, data_config):
    def opened(**changes):
        return datasets.load(data_config(source=f"{kind}:{tmp_path / 'animals'}", **changes))

    return opened


def values(source) -> list[int]:
    return sorted(int(example["image"].flat[0]) for example in source)


@pytest.mark.parametrize("memory", ["arrays", "stream"])
def test_splits_classes_and_images_are_those_of_the_shards(write, load, memory):
    write("train-00000-of-00002", range(10))
    write("train-00001-of-00002", range(10, 15))
    write("test-00000-of-00001", range(20, 23))
    dataset = load(memory=memory)
    info = dataset.info
    assert (info.name, info.class_names, info.image_shape) == ("animals", ("cat", "dog"), (4, 6, 3))
    assert (info.train_size, info.test_size, dataset.notes) == (15, 3, ())
    assert (values(dataset.train), values(dataset.test)) == (list(range(15)), [20, 21, 22])
    for example in dataset.train:
        assert example["label"] == example["image"].flat[0] % 2
        assert (example["image"] == example["image"].flat[0]).all()
    first = [int(dataset.train[i]["label"]) for i in range(15)]
    assert first != sorted(first)
    assert pickle.loads(pickle.dumps(dataset.train))[3]["image"].tolist() == dataset.train[3]["image"].tolist()


def test_without_a_test_split_some_of_each_class_are_held_out(write, load):
    write("part-0", range(10))
    write("part-1", range(10, 20))
    dataset = load(validation="25%")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (12, 4, 4)
    parts = [values(part) for part in (dataset.train, dataset.validation, dataset.test)]
    assert sorted(sum(parts, [])) == list(range(20))
    assert values(load(validation="25%").test) == parts[2]


def test_a_validation_split_is_validated_or_tested_on(write, load):
    write("train/0", range(8))
    write("valid/0", range(10, 14))
    assert load().notes == ("tested on the split 'valid', as there is no test set",)
    write("test/0", range(20, 22))
    dataset = load(validation="validation")
    assert (values(dataset.validation), values(dataset.test)) == ([10, 11, 12, 13], [20, 21])
    assert "config.data.validation=valid selects" in load().notes[0]
    with pytest.raises(
        UserError, match="no shards of config.data.train_split 'training'; it has 'test', 'train', 'valid'"
    ):
        load(train_split="training")


@pytest.mark.parametrize("split", ["testing", "dev", "eval", "evaluation"])
def test_a_split_of_another_name_is_not_trained_on(write, load, split):
    write("train/0", range(8))
    write(f"{split}/0", range(20, 24))
    dataset = load()
    assert set(values(dataset.train) + values(dataset.test)) == set(range(8))
    assert f"the split '{split}' is not used; config.data.test_split={split} tests on it" in dataset.notes
    assert values(load(test_split=split).test) == values(load(validation=split).validation) == list(range(20, 24))


@pytest.mark.parametrize(("shard", "folder"), [("_0", "test"), ("0_", "test"), ("0", "test_"), ("0", "_test")])
def test_a_separator_at_the_end_of_a_name_does_not_hide_a_split(write, load, shard, folder):
    write("train/0", range(8))
    write(f"{folder}/{shard}", range(20, 22))
    assert values(load().test) == [20, 21]


@pytest.mark.parametrize(
    ("train", "test"), [("train0", "test0"), ("train2017/a", "val2017/a"), ("a_train-1", "Test1-a")]
)
def test_a_number_after_its_name_does_not_hide_a_split(write, load, train, test):
    write(train, range(8))
    write(test, range(20, 22))
    dataset = load()
    assert (values(dataset.train), values(dataset.test)) == (list(range(8)), [20, 21])


def test_a_split_that_is_named_by_its_number_is_that_one_alone(write, load):
    for number in (1, 2, 10):
        write(f"fold{number}", range(10 * number, 10 * number + 4))
    dataset = load(train_split="fold1", test_split="fold2")
    assert (values(dataset.train), values(dataset.test)) == ([10, 11, 12, 13], [20, 21, 22, 23])


def test_a_split_may_have_capitals_and_several_words(write, load):
    write("train_clean-0", range(8))
    write("Train-other", range(10, 14))
    write("test-a-0", range(20, 22))
    dataset = load(train_split="train_clean", test_split="Test-A", validation="TRAIN")
    assert (values(dataset.train), values(dataset.validation)) == (list(range(8)), list(range(10, 14)))
    assert values(dataset.test) == [20, 21]


@pytest.mark.parametrize(("mode", "stored", "seen"), [("L", 7, 7), ("I;16", 7 * 256 + 9, 7)])
def test_grey_images_stay_grey_and_16_bits_become_8(write, load, mode, stored, seen):
    write("train", [stored + 1, stored] * 5, mode, labels=[0, 1] * 5)
    dataset = load()
    assert dataset.info.image_shape == (4, 6, 1)
    assert set(values(dataset.train)) <= {seen, seen + (mode == "L")}


def test_a_broken_image_among_many_is_named_or_skipped(write, load):
    images = [encoded(value) for value in range(9)] + [b"no image"]
    path = write("train", range(10), images=images)
    write("test", range(20, 22))
    with pytest.raises(UserError, match=rf"{path}.*(row group 2|0009\.png).*is not an image"):
        load()
    dataset = load(skip_bad=True)
    assert len(dataset.train) == 10
    assert not set(values(dataset.train)) - set(range(9))
    assert len(dataset.bad) == 1


def test_a_label_beyond_the_classes_is_named(write, load):
    write("train", range(4), labels=[0, 1, 0, -1])
    with pytest.raises(UserError, match="has label '?-1'?; expected 0..1"):
        load()


def test_a_damaged_shard_is_named(write, load):
    path = write("train", range(20))
    whole = path.read_bytes()
    for size in {1000, min(20 * 1024, len(whole) - 1)}:  # in a header, and between two examples of a tar file
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=f"'{path}' is not a sound (Parquet|tar) file"):
            load()


@pytest.mark.parametrize(
    ("sizes", "validation", "purpose"),
    [
        ({"train": 8, "test": 0}, "", "test"),
        ({"train": 0, "test": 8}, "", "training"),
        ({"train": 0}, "", "training"),
        ({"train": 0}, "10%", "training"),
        ({"train": 8, "test": 2, "val": 0}, "val", "validation"),
    ],
)
def test_a_split_without_images_is_named(write, load, sizes, validation, purpose):
    for split, size in sizes.items():
        write(split, range(size))
    option = {"test": "test_split", "training": "train_split", "validation": "validation"}[purpose]
    for more in ({}, {"channels": 3, "resize": 4}):
        with pytest.raises(UserError, match=f"^'animals' has no {purpose} images: .*config.data.{option} chooses"):
            load(validation=validation, **more)


def test_the_training_split_is_not_tested_on(write, load):
    write("train", range(8))
    with pytest.raises(UserError, match="config.data.test_split 'train' is trained on; choose another split"):
        load(test_split="train")
    write("train", range(8)).unlink()
    write("test", range(8))
    assert len(load(train_split="test").test) == 2  # held out, as nothing else is called a test set


def test_a_folder_without_shards_is_refused(kind, load, tmp_path):
    with pytest.raises(UserError, match="no folder"):
        load()
    (tmp_path / "animals").mkdir()
    with pytest.raises(UserError, match=r"has no \.(parquet|tar) files$"):
        load()
    (tmp_path / "animals" / "train-0.tar.gz").touch()  # compressed: no random access
    with pytest.raises(UserError, match=r"has no \.(parquet|tar) files; it has 'train-0\.tar\.gz'$"):
        load()


def test_parquet_labels_without_names_are_numbers_or_names(data_config, tmp_path):
    for labels, names in ((["b", "a"], ("a", "b")), ([10, 9], ("9", "10"))):
        write_parquet(tmp_path / "train.parquet", [(encoded(i), labels[i % 2]) for i in range(8)], features={})
        assert datasets.load_info(data_config(source=f"parquet:{tmp_path}")).class_names == names


def test_parquet_test_sets_without_labels_are_named(data_config, tmp_path):
    for split, labels in (("train", [0, 1]), ("test", [-1, -1]), ("validation", [1, 0])):
        write_parquet(tmp_path / f"{split}.parquet", [(encoded(i), labels[i % 2]) for i in range(8)], features={})
    with pytest.raises(UserError, match="row 0' has label -1; expected 0 or more: is this split labelled?.*test_split"):
        datasets.load_info(data_config(source=f"parquet:{tmp_path}"))
    assert datasets.load_info(data_config(source=f"parquet:{tmp_path}", test_split="validation")).test_size == 8


def test_parquet_labels_are_numbered_by_their_own_file(data_config, tmp_path):
    other = {**FEATURES, "label": {"names": NAMES[::-1], "_type": "ClassLabel"}}
    write_parquet(tmp_path / "train-0.parquet", [(encoded(i), i % 2) for i in range(8)])
    write_parquet(tmp_path / "train-1.parquet", [(encoded(i), 1 - i % 2) for i in range(8, 16)], other)
    dataset = datasets.load(data_config(source=f"parquet:{tmp_path}"))
    assert dataset.info.class_names == tuple(NAMES)
    for example in (*dataset.train, *dataset.test):
        assert example["label"] == example["image"].flat[0] % 2


@pytest.mark.parametrize("told", [b"[1]", b'{"info": {"features": null}}', b"{damaged"])
def test_parquet_metadata_of_others_are_ignored_and_damaged_ones_refused(data_config, tmp_path, told):
    table = pa.table({"image": [encoded(i) for i in range(8)], "label": [i % 2 for i in range(8)]})
    pq.write_table(table.replace_schema_metadata({"huggingface": told}), tmp_path / "train.parquet")
    if told != b"{damaged":
        assert datasets.load_info(data_config(source=f"parquet:{tmp_path}")).class_names == ("0", "1")
        return
    with pytest.raises(UserError, match=r"train\.parquet' is not a sound Parquet file: Expecting property name"):
        datasets.load_info(data_config(source=f"parquet:{tmp_path}"))


def test_parquet_columns_without_a_label_are_refused(data_config, tmp_path):
    table = pa.table({"image": [{"bytes": encoded(1), "path": None}], "caption": ["a cat"]})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(UserError, match="has the columns 'image', 'caption'; expected 'label', "):
        datasets.load_info(data_config(source=f"parquet:{tmp_path}"))


def test_parquet_row_groups_are_read_again_after_travelling(data_config, tmp_path):
    write_parquet(tmp_path / "train.parquet", [(encoded(i), i % 2) for i in range(12)])
    dataset = datasets.load(data_config(source=f"parquet:{tmp_path}", memory="stream"))
    before = pickle.dumps(dataset.train)
    values(dataset.train)
    assert len(pickle.dumps(dataset.train)) == len(before)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xef\xbb\xbfcat\r\ndog\r\n\r\n", ""),
        (b"cat\nsun\nsun\n", "has several classes of the name 'sun'; expected a name for each"),
        (b"cat\n\n\ndog\n", "has several classes of the name ''"),
        (b"caf\xe9\ndog\n", r"classnames\.txt' cannot be read: .*utf-8"),
    ],
)
def test_webdataset_class_names_are_lines_of_text_all_different(data_config, tmp_path, content, says):
    write_tar(tmp_path / "train.tar", [(encoded(i), i % 2) for i in range(8)])
    (tmp_path / "classnames.txt").write_bytes(content)
    if not says:
        assert datasets.load_info(data_config(source=f"webdataset:{tmp_path}")).class_names == ("cat", "dog")
        return
    with pytest.raises(UserError, match=says):
        datasets.load_info(data_config(source=f"webdataset:{tmp_path}"))


@pytest.mark.parametrize("suffix", ["json", "JSON", "cls", "CLS"])
def test_webdataset_suffixes_in_any_case_and_class_names_in_the_labels(data_config, tmp_path, suffix):
    members = {}
    for i in range(6):
        label = json.dumps({"label": NAMES[i % 2], "width": 6}) if suffix.lower() == "json" else NAMES[i % 2]
        members |= {f"{i}.JPG": encoded(i), f"{i}.{suffix}": label.encode()}
    write_members(tmp_path / "photos.tar", members)
    assert datasets.load_info(data_config(source=f"webdataset:{tmp_path}")).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"a.png": encoded(0)}, r"'a' in '.*train\.tar' has no label \(KEY\.cls"),
        ({"a.json": b'{"width": 6}', "a.png": encoded(0)}, "'a' in .* has no label"),
        ({"a.cls": b"\n", "a.png": encoded(0)}, "'a' in .* has no label"),
        ({"a.json": b'{"label": [0, 1]}', "a.png": encoded(0)}, "'a' in .* has no label"),
        ({"b/a.cls": b"0"}, "'b/a' in .* has no image"),
        ({"b/a.cls": b"0", "b/a.jpg": b"", "b/a.png": b""}, r"'b/a' in .* has two images: 'b/a\.jpg', 'b/a\.png'"),
        ({"a.json": b"{"}, "is not a sound tar file"),
    ],
)
def test_incomplete_webdataset_examples_are_refused(data_config, tmp_path, members, says):
    write_members(tmp_path / "train.tar", members)
    with pytest.raises(UserError, match=says):
        datasets.load_info(data_config(source=f"webdataset:{tmp_path}"))


def test_linked_shards_are_compared_between_splits(write, load):
    shard = write("train-0", range(10))
    write("test-0", range(20, 23))
    (shard.parent / f"val-0{shard.suffix}").symlink_to(shard.name)
    with pytest.raises(UserError, match="config.data.validation 'val' has 1 of the shards of 'train'; choose another"):
        load(validation="val")
    assert "1 of the 1 test shards are also training shards" in load(test_split="val").notes
    assert not [note for note in load().notes if "also training shards" in note]
