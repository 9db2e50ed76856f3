"""Datasets of TFDS: splits, facts and examples."""

import dataclasses
import io
import json
import pathlib
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from common.data import datasets, imagenet_names
from common.data.dataset_info import Info
from common.data.formats import tfds_source
from common.errors import UserError

# Each image's first pixel is its number, so that an example can be recognised.
COUNTS = {"train": 20, "test": 7}


def encoded(number: int | tuple[int, ...], size: tuple[int, int] = (5, 4), mode: str = "L") -> io.BytesIO:
    file = io.BytesIO()
    Image.new(mode, size, number).save(file, "png")
    file.seek(0)
    return file


class Pictures(tfds.core.GeneratorBasedBuilder):
    """Encoded images beside features that are neither the image nor the label; written without TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 5, 1)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "mask": tfds.features.Image(shape=(4, 5, 1)),
            "name": tfds.features.Text(),
        }
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(count) for split, count in COUNTS.items()}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": encoded(i), "label": i % 2, "mask": encoded(0), "name": f"picture {i}"}


class Photographs(Pictures):
    """Images of differing sizes, some unlabelled, and two candidates for the label."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "photo": tfds.features.Image(shape=(None, None, 1)),
            "kind": tfds.features.ClassLabel(num_classes=2),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"photo": encoded(i, (5 + i, 4)), "kind": -1 if count == COUNTS["test"] else i % 2}


class ThreeSplits(Pictures):
    """Pictures with a validation set."""

    VERSION = tfds.core.Version("1.0.0")

    def _split_generators(self, dl_manager):
        return {"validation": self._generate_examples(5), **super()._split_generators(dl_manager)}


class TwoLabels(Pictures):
    """Pictures with two labels, neither of which is said to be the class."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        label = tfds.features.ClassLabel(num_classes=2)
        features = {"image": tfds.features.Image(shape=(4, 5, 1)), "coarse": label, "fine": label}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": encoded(i), "coarse": 0, "fine": 1}


class Transparent(Pictures):
    """Images of four channels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 5, 4)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": encoded((i, i, i, 255), mode="RGBA"), "label": i % 2}


# As many ids as WordNet gives ImageNet's classes; only the first and the last are those of the dataset.
IDS = [f"n{1440764 + 13688 * number:08}" for number in range(999)] + ["n15075141"]


class Imagenet2012(Pictures, skip_registration=True):  # the name belongs to TFDS
    """Pictures in ImageNet's classes, as TFDS spells them."""

    VERSION = tfds.core.Version("5.1.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 5, 1)),
            "label": tfds.features.ClassLabel(names=IDS),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": encoded(i), "label": i}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A TFDS directory with these datasets."""
    directory = tmp_path_factory.mktemp("tfds")
    for builder in (Pictures, Photographs, ThreeSplits, TwoLabels, Transparent, Imagenet2012):
        builder(data_dir=directory, file_format="array_record").download_and_prepare()
    return directory


@pytest.fixture
def own_copy(prepared, tmp_path):
    """A copy of 'pictures' that a test may damage: the TFDS directory, and the dataset's folder in it."""
    shutil.copytree(prepared / "pictures", tmp_path / "pictures")
    return tmp_path, tmp_path / "pictures" / "1.0.0"


@pytest.fixture
def load(data_config, prepared):
    def load_from(name="pictures", directory=prepared, **changes):
        return datasets.load(data_config(source=f"tfds:{name}", directory=str(directory), **changes))

    return load_from


@pytest.mark.parametrize("memory", ["arrays", "stream"])
def test_facts_and_examples_are_the_prepared_datasets(load, memory):
    dataset = load(memory=memory)
    info = dataset.info
    assert (info.name, info.num_classes, info.class_names) == ("pictures", 2, ("cat", "dog"))
    assert (info.image_shape, info.train_size, info.test_size) == ((4, 5, 1), 20, 7)
    for source, count in ((dataset.train, 20), (dataset.test, 7)):
        examples = [source[i] for i in range(len(source))]
        numbers = [int(example["image"][0, 0, 0]) for example in examples]
        assert sorted(numbers) == list(range(count))
        assert [int(example["label"]) for example in examples] == [number % 2 for number in numbers]
        assert all(example["image"].dtype == np.uint8 and example["label"].dtype == np.int32 for example in examples)


def test_slices_of_a_split_do_not_overlap(load):
    dataset = load(train_split="train[:75%]", test_split="train[75%:]")
    seen = [set(source.images[:, 0, 0, 0]) for source in (dataset.train, dataset.test)]
    assert (len(seen[0]), len(seen[1])) == (15, 5)
    assert not seen[0] & seen[1]


def test_a_split_or_slice_is_validated_on(load):
    dataset = load(train_split="train[:75%]", validation="train[75%:]")
    assert (dataset.info.train_size, dataset.info.validation_size, dataset.info.test_size) == (15, 5, 7)
    assert not set(dataset.train.images[:, 0, 0, 0]) & set(dataset.validation.images[:, 0, 0, 0])
    assert dataset.notes == ()
    with pytest.raises(UserError, match="'train\\[75%:\\]' shares 5 images with 'train'"):
        load(validation="train[75%:]")
    with pytest.raises(UserError, match="shares 7 images with 'test'"):
        load(validation="test[:100%]")
    with pytest.raises(UserError, match="unknown split of 'pictures/1.0.0' 'valid'"):
        load(validation="valid")


def test_a_share_is_held_out_by_the_number_of_each_example(load):
    dataset, again = load(validation="20%"), load(validation="20%")
    parts = [set(source.images[:, 0, 0, 0]) for source in (dataset.train, dataset.validation)]
    assert [len(part) for part in parts] == [16, 4]
    assert parts[0] | parts[1] == set(range(20))
    np.testing.assert_array_equal(dataset.validation.images, again.validation.images)
    assert "20% of the training images" in dataset.notes[0]
    streamed = load(validation="20%", memory="stream")
    for i in range(4):
        np.testing.assert_array_equal(streamed.validation[i]["image"], dataset.validation[i]["image"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"test_split": "test[:0%]"}, r"split 'test\[:0%\]' of 'pictures/1.0.0' has no examples"),
        ({"validation": "test[:0%]"}, r"split 'test\[:0%\]' of 'pictures/1.0.0' has no examples"),
        ({"train_split": "train[:1]", "validation": "10%"}, "'pictures' has no validation images"),
    ],
)
def test_a_split_without_images_is_named(load, changes, says):
    with pytest.raises(UserError, match=says):
        load(**changes)


def test_test_images_that_are_trained_on_are_counted(load):
    assert load(test_split="train[:3]+test").notes == ("3 of the 10 test images are also training images",)
    assert load(test_split="train[10:]", train_split="train[:10]").notes == ()


def test_a_note_names_a_validation_split_that_is_not_used(load):
    (note,) = load("three_splits").notes
    assert "the split 'validation' is not used; config.data.validation=validation" in note
    assert load("three_splits", validation="validation").notes == ()
    assert load("three_splits", test_split="validation").notes == ()


def test_images_are_prepared_as_configured(load):
    dataset = load(channels=3, invert=True, resize=2, pad=1, limit=4)
    assert dataset.info.image_shape == dataset.train[0]["image"].shape == (4, 4, 3)
    assert dataset.info.train_size == len(dataset.train) == 4
    assert set(dataset.train.images[:, 1, 1, 0]) <= {255 - i for i in range(20)}


def test_sizes_that_differ_need_resize(load):
    with pytest.raises(UserError, match=r"'photographs/1.0.0' differ in size.*config\.data\.resize"):
        load("photographs")
    assert load("photographs", test_split="train", resize=4).info.image_shape == (4, 4, 1)


def test_images_of_four_channels_need_channels(load):
    with pytest.raises(UserError, match="'transparent/1.0.0' have 4 channels: set config.data.channels to 1 or 3"):
        load("transparent")
    assert load("transparent", channels=3).train[0]["image"].shape == (4, 5, 3)


def test_imagenets_ids_are_the_classes_that_published_networks_know_by_words(data_config, prepared):
    words = imagenet_names.words()
    known = Info("torchvision", 1000, words, (4, 5, 1), train_size=1, test_size=0)
    config = data_config(source="tfds:imagenet2012", directory=str(prepared))
    assert datasets.open_dataset(config).info.class_names == tuple(IDS)
    assert datasets.open_dataset(config, known).info.class_names == words
    assert sorted(int(example["label"]) for example in datasets.load_test(config, known=known)) == list(range(7))
    other = dataclasses.replace(known, class_names=words[::-1])
    with pytest.raises(UserError, match="are not those that the run was trained on"):
        datasets.load_test(config, known=other)


def test_an_unlabelled_example_is_refused(load):
    with pytest.raises(UserError, match="photographs/1.0.0 test.* has label -1"):
        load("photographs", resize=4)


def test_features_without_a_single_label_are_refused(load):
    with pytest.raises(UserError, match=r"\['coarse', 'fine'\].*expected.*one class label"):
        load("two_labels")


def test_sources_travel_to_other_processes(load):
    source = load(memory="stream", pad=1).train
    copy = pickle.loads(pickle.dumps(source))
    for i in (0, 19):
        np.testing.assert_array_equal(copy[i]["image"], source[i]["image"])
    assert len(list(copy)) == 20


def test_a_misspelt_name_is_mended(load):
    with pytest.raises(UserError, match="unknown TFDS dataset 'picturse'; did you mean 'pictures'"):
        load("picturse")
    with pytest.raises(UserError, match="did you mean 'mnist'"):
        load("mnits")


def test_the_error_for_an_unprepared_dataset_says_how_to_prepare_it(load, tmp_path):
    command = f"python -m common.prepare --dataset=mnist --data_dir={tmp_path}`"
    with pytest.raises(UserError) as caught:
        load("mnist", tmp_path)
    assert str(caught.value) == f"TFDS dataset 'mnist' is not prepared in {tmp_path}: run `{command}"


def test_facts_of_a_registered_dataset_are_known_before_it_is_prepared(data_config, tmp_path):
    info = datasets.load_info(data_config(source="tfds:cifar10", directory=str(tmp_path), pad=4))
    assert (info.name, info.num_classes, info.image_shape) == ("cifar10", 10, (40, 40, 3))
    info = datasets.load_info(data_config(source="tfds:imagenet2012", directory=str(tmp_path), resize=224))
    assert (info.num_classes, info.image_shape) == (1000, (224, 224, 3))


def test_facts_alone_are_those_of_the_loaded_dataset(data_config, prepared):
    config = data_config(source="tfds:pictures", directory=str(prepared), limit=3)
    assert datasets.load_info(config) == datasets.load(config).info


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("tran", "did you mean 'train'"),
        ("train[:0]", "has no examples"),
        ("train[:200%]", r"\[-100, 100\]"),
        ("train[", "rain\\["),
    ],
)
def test_a_split_that_does_not_exist_is_refused(load, split, says):
    with pytest.raises(UserError, match=says):
        load(train_split=split)


@pytest.mark.parametrize(
    ("name", "says"),
    [("mnist/large", "unknown config of TFDS dataset 'mnist' 'large'"), ("mnist:0.0.1", "0.0.1"), ("a b", "a b")],
)
def test_a_config_or_version_that_does_not_exist_is_refused(load, tmp_path, name, says):
    with pytest.raises(UserError, match=says):
        load(name, tmp_path)


def damage_tail(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_middle(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[300:400] = bytes(100)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_tail, damage_middle, pathlib.Path.unlink])
def test_a_damaged_file_is_named(load, own_copy, damage):
    directory, folder = own_copy
    damage(folder / "pictures-test.array_record-00000-of-00001")
    with pytest.raises(UserError, match=r"pictures-test\.array_record-00000-of-00001' is missing or damaged"):
        load(directory=directory)


def test_a_file_with_too_few_examples_is_named(load, own_copy):
    directory, folder = own_copy
    test, train = (folder / f"pictures-{split}.array_record-00000-of-00001" for split in ("test", "train"))
    shutil.copy(test, train)
    with pytest.raises(UserError, match=r"pictures-train.*it has 7 examples, expected 20"):
        load(directory=directory)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_metadata_are_refused_in_one_line(load, own_copy, name):
    directory, folder = own_copy
    (folder / name).write_text('{"name": "pic')
    with pytest.raises(UserError, match="'pictures' cannot be opened"):
        load(directory=directory)


def test_another_file_format_is_refused(load, own_copy):
    directory, folder = own_copy
    facts = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(facts | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match=f"prepared as tfrecord, expected array_record: remove {folder}"):
        load(directory=directory)


def test_reading_imports_no_tensorflow_and_no_jax(prepared):
    script = f"""
import sys
from ml_collections import ConfigDict
from common.data import datasets
config = ConfigDict(dict(source="tfds:pictures", directory={str(prepared)!r}, train_split="train", test_split="test",
    validation="", limit=0, channels=0, invert=False, resize=0, crop=0, pad=0, train_crop="centre", resize_max=0,
    stretch=False, interpolation="bilinear", shuffle="epoch", sampling="uniform", skip_bad=False, memory="arrays"))
assert len(datasets.load(config).train) == 20
assert not any(name in sys.modules for name in ("tensorflow", "jax", "flax"))
"""
    root = pathlib.Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True, timeout=120)


def test_our_builders_are_found_by_name():
    assert all(map(tfds_source.is_ours, ("usps", "mnist", "cifar10:3.0.2")))
    assert not tfds_source.is_ours("kmnist")
