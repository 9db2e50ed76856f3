"""Datasets in folders of images: splits, classes, and the mistakes that are named."""

import collections
import dataclasses
import os
import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image

from common.data import datasets, sources
from common.data.dataset_info import mismatch
from common.data.sources import ArraySource
from common.errors import UserError
from common.report import page


def write_images(folder: pathlib.Path, count: int, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new(mode, size, i * (1 if mode == "L" else 0x010101)).save(folder / f"{i:03}.png")


@pytest.fixture
def animals(tmp_path):
    """Two classes without a split: 10 cats and 5 dogs of 6 x 4 pixels whose value is their number."""
    write_images(tmp_path / "animals" / "cat", 10)
    write_images(tmp_path / "animals" / "dog", 5)
    return tmp_path / "animals"


@pytest.fixture
def split_animals(tmp_path):
    for split, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            write_images(tmp_path / "animals" / split / name, count)
    return tmp_path / "animals"


def load(data_config, root, **changes):
    return datasets.load(data_config(source=f"folder:{root}", **changes))


def test_classes_are_the_sub_folders_by_name(data_config, animals):
    info = load(data_config, animals).info
    assert (info.name, info.num_classes, info.class_names) == ("animals", 2, ("cat", "dog"))
    assert info.image_shape == (4, 6, 3)
    assert (info.train_size, info.test_size) == (12, 3)


def test_names_that_are_not_utf8_become_text_that_pages_can_show(data_config, tmp_path):
    root = tmp_path / os.fsdecode(b"caf\xe9")
    write_images(root / os.fsdecode(b"ch\xeane"), 5)
    write_images(root / "olive", 5)
    info = load(data_config, root).info
    assert (info.name, info.class_names) == (r"caf\xe9", (r"ch\xeane", "olive"))
    assert r"caf\xe9" in page.document("names", [str(root)]).encode().decode()


def test_a_fraction_of_each_class_is_held_out_once_and_for_all(data_config, animals):
    first, second = load(data_config, animals, holdout=0.4), load(data_config, animals, holdout=0.4)
    assert np.bincount(first.test.labels).tolist() == [4, 2]
    assert np.bincount(first.train.labels).tolist() == [6, 3]
    np.testing.assert_array_equal(first.test.images, second.test.images)
    held_out, rest = (
        {(int(example["label"]), int(example["image"][0, 0, 0])) for example in source}
        for source in (first.test, first.train)
    )
    assert held_out | rest == {(0, i) for i in range(10)} | {(1, i) for i in range(5)}


def test_the_order_mixes_the_classes(data_config, animals):
    labels = load(data_config, animals).train.labels.tolist()
    assert labels != sorted(labels)
    assert load(data_config, animals, limit=6).train.labels.tolist() == labels[:6]


def test_given_splits_are_used(data_config, split_animals):
    info = load(data_config, split_animals).info
    assert (info.train_size, info.test_size) == (12, 6)


def test_val_stands_in_for_test(data_config, split_animals):
    (split_animals / "test").rename(split_animals / "val")
    assert load(data_config, split_animals).info.test_size == 6


def test_a_folder_called_valid_is_tested_on_with_a_note(data_config, split_animals):
    (split_animals / "test").rename(split_animals / "valid")
    dataset = load(data_config, split_animals)
    assert dataset.info.test_size == 6
    (note,) = dataset.notes
    assert note == f"tested on '{split_animals / 'valid'}', as there is no test set"


@pytest.fixture
def three_splits(split_animals):
    for name, count in (("cat", 2), ("dog", 3)):
        write_images(split_animals / "val" / name, count)
    return split_animals


def test_a_validation_folder_beside_a_test_folder_is_used_when_asked(data_config, three_splits):
    unused = load(data_config, three_splits)
    assert (unused.validation, unused.info.test_size) == (None, 6)
    (note,) = unused.notes
    assert "val' is not used; config.data.validation=val" in note
    for name in ("val", "valid", "validation"):  # names for the same
        dataset = load(data_config, three_splits, validation=name)
        assert (dataset.info.train_size, dataset.info.test_size, dataset.info.validation_size) == (12, 6, 5)
        assert (len(dataset.validation), dataset.notes) == (5, ())
    write_images(three_splits / "val" / "emu", 1)
    with pytest.raises(UserError, match="val/emu' has no training images"):
        load(data_config, three_splits, validation="val")


def test_a_note_names_a_test_folder_of_another_name(data_config, split_animals):
    (split_animals / "test").rename(split_animals / "testing")
    unused, held_out = load(data_config, split_animals).notes
    assert "testing' is not used; config.data.test_split=testing tests on it" in unused
    assert "held out of the training images" in held_out
    assert load(data_config, split_animals, test_split="testing").info.test_size == 6


def test_beside_a_validation_folder_test_images_are_held_out(data_config, split_animals):
    (split_animals / "test").rename(split_animals / "val")
    dataset = load(data_config, split_animals, validation="val")
    assert (dataset.info.train_size, dataset.info.test_size, dataset.info.validation_size) == (10, 2, 6)
    assert dataset.notes == ("tested on 20% of each class, held out of the training images",)


def test_a_share_of_each_class_is_held_out_for_validation(data_config, split_animals):
    dataset = load(data_config, split_animals, validation="50%")
    assert [np.bincount(source.labels).tolist() for source in (dataset.train, dataset.validation)] == [[3, 3]] * 2
    assert "validated on 50% of each class" in dataset.notes[-1]


def test_a_validation_folder_that_does_not_exist_is_refused(data_config, split_animals):
    with pytest.raises(UserError, match="no folder '.*/val'"):
        load(data_config, split_animals, validation="val")


def test_the_fingerprint_follows_names_and_labels(data_config, animals):
    def fingerprint():
        return datasets.load_info(data_config(source=f"folder:{animals}")).fingerprint

    found = [fingerprint(), fingerprint()]
    (animals / "cat" / "003.png").rename(animals / "cat" / "other.png")
    found.append(fingerprint())
    (animals / "cat" / "other.png").rename(animals / "dog" / "other.png")
    found.append(fingerprint())
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_run_that_goes_on_keeps_its_order_of_classes(data_config, tmp_path):
    for name in ("1", "2", "10"):
        write_images(tmp_path / name, 3)
    config = data_config(source=f"folder:{tmp_path}")
    info = datasets.load_info(config)
    assert info.class_names == ("1", "2", "10")
    known = dataclasses.replace(info, class_names=("1", "10", "2"))
    dataset = datasets.load(config, known)
    assert dataset.info.class_names == ("1", "10", "2")
    assert mismatch(known, dataset.info) is None
    now = datasets.load(config, dataclasses.replace(known, class_names=("1", "10", "3"))).info
    assert now.class_names == info.class_names


def test_a_run_is_tested_on_a_folder_that_has_only_test_images(data_config, split_animals):
    known = load(data_config, split_animals).info
    (split_animals / "train").rename(split_animals.parent / "elsewhere")
    config = data_config(source=f"folder:{split_animals}")
    with pytest.raises(UserError, match="has test/ but no train/"):
        datasets.load_test(config)
    (split_animals / "test" / "cat").rename(split_animals / "cats")
    test = datasets.load_test(config, known=known)
    assert [int(example["label"]) for example in test] == [1, 1, 1]  # dogs, as the run has them
    write_images(split_animals / "test" / "emu", 1)
    with pytest.raises(UserError, match="emu' has no training images"):
        datasets.load_test(config, known=known)


def test_a_run_is_tested_on_all_images_of_another_folder(data_config, animals):
    config = data_config(source=f"folder:{animals}")
    known = datasets.load_info(config)
    assert [len(datasets.load_test(config, known=known, everything=every)) for every in (False, True)] == [3, 15]
    with pytest.raises(UserError, match="are 4 x 6 x 3; the run was trained on 8 x 8 x 3"):
        datasets.load_test(config, known=dataclasses.replace(known, image_shape=(8, 8, 3)), everything=True)
    grey = datasets.load_test(config, known=dataclasses.replace(known, image_shape=(4, 6, 1)), everything=True)
    assert grey[0]["image"].shape == (4, 6, 1)


def test_train_alone_is_split(data_config, split_animals):
    (split_animals / "test").rename(split_animals / "unused")
    assert load(data_config, split_animals, holdout=0.5).info.test_size == 6


def test_splits_can_be_named(data_config, split_animals):
    (split_animals / "test").rename(split_animals / "extra")
    assert load(data_config, split_animals, test_split="extra").info.test_size == 6
    with pytest.raises(UserError, match=r"no folder .*extre.*did you mean .*extra"):
        load(data_config, split_animals, test_split="extre")


def test_streamed_examples_are_those_of_the_arrays(data_config, animals):
    streamed = load(data_config, animals, memory="stream", resize=3, pad=1)
    arrays = load(data_config, animals, memory="arrays", resize=3, pad=1)
    copy = pickle.loads(pickle.dumps(streamed.train))
    assert len(copy) == len(arrays.train) == 12
    for i in range(12):
        np.testing.assert_array_equal(copy[i]["image"], arrays.train[i]["image"])
        assert copy[i]["label"] == arrays.train[i]["label"]
    assert copy[0]["image"].shape == arrays.info.image_shape == (5, 5, 3)


def test_auto_streams_what_is_too_large_to_hold(data_config, animals, monkeypatch):
    monkeypatch.setattr(sources, "ARRAYS_BYTES", 15 * 4 * 6 * 3)
    assert isinstance(load(data_config, animals).train, ArraySource)
    monkeypatch.setattr(sources, "ARRAYS_BYTES", 15 * 4 * 6 * 3 - 1)
    assert not isinstance(load(data_config, animals).train, ArraySource)


def test_the_facts_are_those_of_the_loaded_dataset(data_config, animals):
    config = data_config(source=f"folder:{animals}", resize=5)
    assert datasets.load_info(config) == datasets.load(config).info


def test_grey_images_stay_grey_unless_one_has_colour(data_config, tmp_path):
    write_images(tmp_path / "a", 4, "L")
    write_images(tmp_path / "b", 4, "L")
    assert load(data_config, tmp_path).info.image_shape == (4, 6, 1)
    assert load(data_config, tmp_path, channels=3).info.image_shape == (4, 6, 3)
    write_images(tmp_path / "b", 4, "RGB")
    mixed = load(data_config, tmp_path, resize=4)
    assert mixed.info.image_shape == (4, 4, 3)
    assert mixed.train.images.shape[1:] == (4, 4, 3)


def test_hidden_files_are_ignored(data_config, animals):
    (animals / ".cache").mkdir()
    (animals / "cat" / ".DS_Store").write_text("not an image")
    (animals / "labels.csv").write_text("beside the classes")
    assert load(data_config, animals).info.train_size == 12


def test_files_of_file_managers_are_ignored(data_config, animals):
    for name in ("Thumbs.db", "desktop.ini", "Desktop.ini", "ehthumbs.db"):
        (animals / "cat" / name).write_text("not an image")
    for folder in (animals, animals / "dog"):
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "._000.png").write_text("not an image")
    info = load(data_config, animals).info
    assert (info.class_names, info.train_size, info.test_size) == (("cat", "dog"), 12, 3)
    (animals / "emu").mkdir()
    (animals / "emu" / "Thumbs.db").write_text("not an image")
    with pytest.raises(UserError, match="emu' has no images"):
        load(data_config, animals)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "1"], ("1", "9", "10")),
        (["010", "9", "11", "0"], ("0", "9", "010", "11")),
        (["10", "9", "a"], ("10", "9", "a")),
        (["-1", "10", "9"], ("-1", "10", "9")),
    ],
)
def test_classes_that_are_numbers_are_in_their_order(data_config, tmp_path, names, order):
    for name in names:
        write_images(tmp_path / name, 2)
    assert load(data_config, tmp_path).info.class_names == order


def test_sizes_that_differ_need_resize(data_config, animals):
    Image.new("RGB", (9, 9)).save(animals / "dog" / "big.png")
    for memory in ("arrays", "stream"):
        with pytest.raises(UserError, match=r"differ in size.*config\.data\.resize"):
            load(data_config, animals, memory=memory)
    assert load(data_config, animals, resize=4).info.image_shape == (4, 4, 3)


def test_a_test_image_of_another_size_is_named(data_config, split_animals):
    Image.new("RGB", (9, 9)).save(split_animals / "test" / "dog" / "big.png")
    with pytest.raises(UserError, match=r"big\.png' has 9 x 9 pixels, others have 4 x 6"):
        load(data_config, split_animals)


@pytest.mark.parametrize("memory", ["arrays", "stream"])
def test_a_file_that_is_not_an_image_is_named(data_config, animals, memory):
    (animals / "dog" / "notes.txt").write_text("good dogs")
    with pytest.raises(UserError, match=r"dog/notes\.txt' is not an image"):
        load(data_config, animals, memory=memory)


def test_an_image_that_is_cut_short_is_named(data_config, animals):
    path = animals / "cat" / "003.png"
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"cat/003\.png' is a damaged image"):
        load(data_config, animals)


def test_a_missing_folder_names_its_neighbour(data_config, animals):
    with pytest.raises(UserError, match=r"no folder .*animal'.*did you mean .*animals'"):
        load(data_config, str(animals)[:-1])
    with pytest.raises(UserError, match=r"no folder .*/cat/000\.png': it is a file$"):
        load(data_config, str(animals / "cat" / "000.png"))
    with pytest.raises(UserError, match=r"no folder .*FOLDER'; FOLDER stands for the path of your own images"):
        load(data_config, "FOLDER")


def test_a_folder_without_classes_is_refused(data_config, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "loose.png")
    with pytest.raises(UserError, match="one sub-folder for each class.*it has none"):
        load(data_config, tmp_path)


def test_a_folder_with_one_class_is_refused(data_config, tmp_path):
    write_images(tmp_path / "cat", 3)
    with pytest.raises(UserError, match="it has only one, 'cat'"):
        load(data_config, tmp_path)


def test_an_empty_class_is_refused(data_config, animals):
    (animals / "emu").mkdir()
    (animals / "emu" / ".keep").touch()
    with pytest.raises(UserError, match="emu' has no images"):
        load(data_config, animals)


def test_a_class_with_a_single_image_cannot_be_split(data_config, animals):
    write_images(animals / "emu", 1)
    with pytest.raises(UserError, match="class 'emu' has one image"):
        load(data_config, animals)


def test_a_test_class_without_training_images_is_refused(data_config, split_animals):
    write_images(split_animals / "test" / "emu", 2)
    with pytest.raises(UserError, match="test/emu' has no training images"):
        load(data_config, split_animals)


def test_a_training_class_without_test_images_is_allowed(data_config, split_animals):
    write_images(split_animals / "train" / "bat", 2)
    dataset = load(data_config, split_animals)
    assert dataset.info.class_names == ("bat", "cat", "dog")
    assert set(dataset.test.labels) == {1, 2}


def test_images_in_sub_folders_of_a_class_belong_to_it(data_config, animals):
    plain = load(data_config, animals)
    write_images(animals / "cat" / "kittens" / "black", 5)
    (animals / "cat" / "none").mkdir()
    dataset = load(data_config, animals)
    assert dataset.info.class_names == ("cat", "dog")
    assert np.bincount(np.concatenate([dataset.train.labels, dataset.test.labels])).tolist() == [15, 5]
    assert len(dataset.notes) == len(plain.notes) + 1
    assert "kittens/black/" in dataset.notes[-2]


def test_links_to_folders_are_followed_and_cycles_are_refused(data_config, animals, tmp_path):
    write_images(tmp_path / "elsewhere", 4)
    (animals / "emu").symlink_to(tmp_path / "elsewhere")
    assert load(data_config, animals).info.num_classes == 3
    (animals / "cat" / "again").symlink_to(animals / "cat")
    with pytest.raises(UserError, match="cat/again' is a link to a folder that contains it"):
        load(data_config, animals)


@pytest.mark.parametrize("place", ["", "cat"])
def test_a_link_to_itself_is_named(data_config, animals, place):
    (animals / place / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="loop' cannot be read: Too many levels of symbolic links"):
        load(data_config, animals)


def test_a_fifo_among_the_images_is_named(data_config, animals):
    os.mkfifo(animals / "cat" / "fifo.png")
    with pytest.raises(UserError, match=r"fifo\.png' is a FIFO; expected an image file"):
        load(data_config, animals)
    dataset = load(data_config, animals, skip_bad=True)
    assert dataset.info.train_size + dataset.info.test_size in (15, 16)
    assert [name for name in dataset.bad if "FIFO" in name] == list(dataset.bad)


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("train2017", "val2017"), ("train_images", "test_images")]
)
def test_folders_that_look_like_splits_are_not_classes(data_config, split_animals, train, test):
    (split_animals / "train").rename(split_animals / train)
    (split_animals / "test").rename(split_animals / test)
    first, second = sorted((train, test))
    with pytest.raises(UserError, match=f"'{first}', '{second}', which look like splits"):
        load(data_config, split_animals)
    assert load(data_config, split_animals, train_split=train, test_split=test).info.train_size == 12


@pytest.mark.parametrize("name", ["x" * 300, "~nobody-of-that-name/images", "a\0b"])
def test_a_name_that_no_folder_can_have_is_refused(data_config, name):
    with pytest.raises(UserError, match="no folder"):
        load(data_config, name)


def test_a_test_folder_without_a_train_folder_is_refused(data_config, split_animals):
    (split_animals / "train").rename(split_animals / "training")
    with pytest.raises(UserError, match="has test/ but no train/"):
        load(data_config, split_animals)


@pytest.mark.parametrize("validation", ["", "val"])
def test_a_validation_folder_without_a_train_folder_is_refused(data_config, animals, validation):
    for name in ("cat", "dog"):
        write_images(animals / "val" / name, 2)
    with pytest.raises(UserError, match="has val/ but no train/; expected both"):
        load(data_config, animals, validation=validation)


@pytest.mark.parametrize(
    ("validation", "says"),
    [
        ("train/", "'train/' shares 12 images with 'train'"),
        ("test/../train", "'test/../train' shares 12 images with 'train'"),
        ("linked", "'linked' shares 12 images with 'train'"),
        ("./test", "'./test' shares 6 images with 'test'"),
        ("some", "'some' shares 6 images with 'train'"),
    ],
)
def test_images_that_are_trained_or_tested_on_are_no_validation_set(data_config, split_animals, validation, says):
    (split_animals / "linked").symlink_to("train")
    write_images(split_animals / "some" / "dog", 2)
    (split_animals / "some" / "cat").symlink_to(split_animals / "train" / "cat")
    with pytest.raises(UserError, match=f"config.data.validation {says}; choose another"):
        load(data_config, split_animals, validation=validation)


def test_a_link_to_the_test_folder_does_not_stand_for_it(data_config, split_animals):
    (split_animals / "val").symlink_to("test")
    assert load(data_config, split_animals).notes == ()
    with pytest.raises(UserError, match="'val' shares 6 images with 'test'"):
        load(data_config, split_animals, validation="val")


@pytest.mark.parametrize("test_split", ["train", "./train/", "linked"])
def test_test_images_that_are_trained_on_are_counted(data_config, split_animals, test_split):
    (split_animals / "linked").symlink_to("train")
    dataset = load(data_config, split_animals, test_split=test_split)
    assert "12 of the 12 test images are also training images" in dataset.notes
    assert not [note for note in load(data_config, split_animals).notes if "also training images" in note]


def test_an_empty_test_folder_is_refused(data_config, split_animals):
    for name in ("cat", "dog"):
        (split_animals / "test" / name).rename(split_animals / f"moved_{name}")
    with pytest.raises(UserError, match="test' should have one sub-folder for each class"):
        load(data_config, split_animals)


def test_photographs_of_any_size_and_encoding(data_config, shared_data, tmp_path):
    import tarfile

    with tarfile.open(shared_data / "imagenet-sample" / "imagenet-sample.tar") as archive:
        members = [member for member in archive.getmembers() if member.isfile()][:40]
        archive.extractall(tmp_path, members, filter="data")
    dataset = load(data_config, tmp_path, test_split="train", resize=96)
    assert dataset.info.num_classes == dataset.info.train_size == 40
    assert dataset.train.images.shape == (40, 96, 96, 3)
    assert (dataset.train.images.std(axis=(1, 2, 3)) > 5).all()  # no picture came out blank


def test_each_folder_is_listed_once(data_config, split_animals, monkeypatch):
    listed, scandir = collections.Counter(), os.scandir

    def counted(folder):
        listed[os.fspath(folder)] += 1
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", counted)
    datasets.open_dataset(data_config(source=f"folder:{split_animals}"))
    classes = [str(split_animals / split / name) for split in ("train", "test") for name in ("cat", "dog")]
    assert [listed[folder] for folder in classes] == [1, 1, 1, 1]


def test_links_to_single_images_are_compared(data_config, split_animals, tmp_path):
    for name, count in (("cat", 3), ("dog", 2)):
        (split_animals / "mixed" / name).mkdir(parents=True)
        for i in range(count):
            (split_animals / "mixed" / name / f"link{i}.png").symlink_to(split_animals / "train" / name / f"00{i}.png")
    write_images(split_animals / "mixed" / "dog", 2)
    with pytest.raises(UserError, match="config.data.validation 'mixed' shares 5 images with 'train'"):
        load(data_config, split_animals, validation="mixed")
    assert (
        "5 of the 7 test images are also training images" in load(data_config, split_animals, test_split="mixed").notes
    )
    (split_animals / "train").rename(tmp_path / "stored")  # links on both sides
    for name in ("cat", "dog"):
        (split_animals / "train" / name).mkdir(parents=True)
        for i in range(6):
            (split_animals / "train" / name / f"{i}.png").symlink_to(tmp_path / "stored" / name / f"00{i}.png")
    for link in (split_animals / "mixed").rglob("link*"):
        name = os.path.basename(link.readlink())
        link.unlink()
        link.symlink_to(tmp_path / "stored" / link.parent.name / name)
    with pytest.raises(UserError, match="config.data.validation 'mixed' shares 5 images with 'train'"):
        load(data_config, split_animals, validation="mixed")
