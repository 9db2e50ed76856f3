"""scikit-learn's digits as a dataset: splits, limits, facts and fingerprints."""

import functools
import pickle

import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from common import config
from common.data import datasets
from common.errors import UserError


@functools.cache
def loaded(**changes):
    """The dataset of a `data` section with these changes, loaded once. Not to be written to."""
    section = config.base(ConfigDict()).data
    section.update(changes)
    return datasets.load(section)


def test_digits_are_scikit_learns():
    dataset = loaded()
    info = dataset.info
    assert (info.name, info.num_classes, info.image_shape) == ("digits", 10, (8, 8, 1))
    assert info.class_names == tuple("0123456789")
    assert info.train_size + info.test_size == 1797
    assert (len(dataset.train), len(dataset.test)) == (info.train_size, info.test_size)
    images = np.concatenate([dataset.train.images, dataset.test.images])
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    # Every original digit is in one of the two sets, once, and has kept its label.
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    ours = sorted(zip(images.reshape(1797, -1).tolist(), labels.tolist(), strict=True))
    original = load_digits()
    scaled = np.round(original.data / 16 * 255).astype(int)
    assert ours == sorted(zip(scaled.tolist(), original.target.tolist(), strict=True))


@pytest.mark.parametrize("holdout", [0.1, 0.5])
def test_the_held_out_digits_are_stratified(holdout):
    dataset = loaded(holdout=holdout)
    held_out, rest = (np.bincount(source.labels, minlength=10) for source in (dataset.test, dataset.train))
    np.testing.assert_array_equal(held_out, np.round(holdout * (held_out + rest)))


def test_the_digits_are_the_same_in_every_process(data_config):
    first, second = loaded(), datasets.load(data_config())
    np.testing.assert_array_equal(first.train.images, second.train.images)
    # The order is defined by a hash, so these labels are a fact, whatever the versions of numpy and Python.
    assert first.test.labels[:12].tolist() == second.test.labels[:12].tolist() == [4, 2, 7, 1, 3, 4, 9, 4, 1, 3, 3, 5]


def test_a_larger_holdout_only_adds_to_the_test_set():
    small, large = loaded(holdout=0.1).test.images, loaded(holdout=0.5).test.images
    kept = {image.tobytes() for image in large}
    assert all(image.tobytes() in kept for image in small)


def test_limit_takes_the_first_examples_of_the_same_order(data_config):
    everything, limited = loaded(), datasets.load(data_config(limit=100))
    np.testing.assert_array_equal(limited.train.images, everything.train.images[:100])
    assert (limited.info.train_size, limited.info.test_size) == (100, everything.info.test_size)
    assert set(limited.train.labels) == set(range(10))


def test_limit_beyond_the_data_is_refused(data_config):
    with pytest.raises(UserError, match="limit is 5000, but 'digits' has 1,438 training examples"):
        datasets.load(data_config(limit=5000))


def test_digits_are_prepared_as_configured(data_config):
    dataset = datasets.load(data_config(channels=3, invert=True, resize=12, pad=2))
    assert dataset.info.image_shape == dataset.train[0]["image"].shape == (16, 16, 3)
    assert (dataset.train.images[:, :2] == 0).all()
    assert dataset.train.images.mean() > 255 * (12 / 16) ** 2 / 2  # mostly paper, and paper is bright now


def test_examples_are_arrays_a_loader_can_stack():
    example = loaded().test[3]
    assert set(example) == {"image", "label"}
    assert (example["image"].shape, example["image"].dtype) == ((8, 8, 1), np.uint8)
    assert example["label"].dtype == np.int32


def test_the_facts_are_those_of_the_loaded_dataset(data_config):
    assert datasets.load_info(data_config(pad=1, limit=10)) == datasets.load(data_config(pad=1, limit=10)).info


@pytest.mark.parametrize(
    ("source", "says"),
    [("digit", "did you mean 'digits'"), ("mnist", "tfds:NAME"), ("tfds:", "tfds:NAME"), ("digits:8", "digits")],
)
def test_an_unknown_source_names_the_known_ones(data_config, source, says):
    with pytest.raises(UserError, match=says):
        datasets.load(data_config(source=source))


def test_digits_have_no_splits_to_choose(data_config):
    with pytest.raises(UserError, match="no splits"):
        datasets.load(data_config(train_split="train[:50%]"))


def test_a_share_of_each_class_is_held_out_for_validation(data_config):
    plain, dataset = loaded(), datasets.load(data_config(validation="10%"))
    assert (plain.validation, plain.info.validation_size) == (None, 0)
    assert dataset.info.validation_size == len(dataset.validation) == plain.info.train_size - len(dataset.train)
    np.testing.assert_array_equal(dataset.test.images, plain.test.images)
    counts = [np.bincount(source.labels, minlength=10) for source in (dataset.validation, plain.train)]
    np.testing.assert_array_equal(counts[0], np.round(0.1 * counts[1]))
    together = np.concatenate([dataset.train.images, dataset.validation.images])
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in plain.train.images)
    assert dataset.notes == (
        "tested on 20% of each class, held out of the training images",
        "validated on 10% of each class, held out of the training images",
    )
    assert datasets.load_info(data_config(validation="10%")) == dataset.info


@pytest.mark.parametrize(
    ("validation", "says"),
    [
        ("0%", "share between 0% and 100%"),
        ("100%", "share between 0% and 100%"),
        ("validation", "'digits' has no splits: expected a share"),
        ("10", "expected a share"),
        ("test", "is trained or tested on"),
    ],
)
def test_an_impossible_validation_set_is_refused(data_config, validation, says):
    with pytest.raises(UserError, match=says):
        datasets.check(data_config(validation=validation, source="tfds:mnist" if validation == "test" else "digits"))


def test_the_fingerprint_is_that_of_the_examples(data_config):
    plain, again = (datasets.load_info(data_config()).fingerprint for _ in range(2))
    assert plain == again != ""
    other = (data_config(holdout=0.3), data_config(validation="10%"))
    assert len({plain, *(datasets.load_info(config).fingerprint for config in other)}) == 3


def test_array_sources_travel_to_other_processes():
    source = loaded().test
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[5]["image"], source[5]["image"])
