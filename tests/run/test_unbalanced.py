"""Training on classes of different sizes: class weights, balanced sampling, errors of each class."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from common import config_checks, train
from common.data import datasets, sources
from common.errors import UserError
from common.run import trained
from tests import small_run
from tests.slow import rest_slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Thirty dark pictures and six bright ones, alike within their class, to train on; three bright ones to test."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, count, base in (("bright", 6, 150), ("dark", 30, 0)):
        picture = Image.fromarray(np.uint8(rng.integers(base, base + 100, (8, 8))))
        for split, number in (("train", count), ("test", 3 if name == "bright" else 1)):
            (root / split / name).mkdir(parents=True)
            for i in range(number):
                picture.save(root / split / name / f"{i}.png")
    return root


def config(pictures, **changes):
    whole = {"data.source": f"folder:{pictures}", "data.limit": 0, "train.batch_size": 36, "train.length": "1 step"}
    made = small_run.get_config(**{**whole, **changes})
    config_checks.validate(made)
    return made


@pytest.mark.slow
def test_weights_and_sampling_both_make_the_update_of_equally_many_images(pictures, tmp_path):
    # A batch is the training set; 30 + 6 images with weights 0.6 and 3 weigh as much as 18 + 18 drawn ones.
    runs = {"off": {}, "weights": {"train.class_weights": "balanced"}, "sampling": {"data.sampling": "balanced"}}
    found = {}
    for name, changes in runs.items():
        train.fit(config(pictures, **changes), tmp_path / name)
        found[name] = trained.load(tmp_path / name).variables["params"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), found["weights"], found["sampling"]
    )
    far = jax.tree.map(lambda a, b: np.abs(a - b).max(), found["weights"], found["off"])
    assert max(jax.tree.leaves(far)) > 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.class_weights": "balanced", "data.sampling": "balanced"}, "for the sizes of the classes twice"),
        ({"data.sampling": "balanced", "data.shuffle": "once"}, "data.shuffle is 'once'; set it to 'epoch'"),
        ({"data.sampling": "ballanced"}, "did you mean 'balanced'"),
    ],
)
def test_contradictions_are_refused(pictures, changes, message):
    with pytest.raises(UserError, match=message):
        config(pictures, **changes)


@pytest.mark.parametrize("option", rest_slow(["data.sampling", "train.class_weights"]))
def test_memory_changes_no_result_where_an_image_cannot_be_read(pictures, tmp_path, option):
    root = tmp_path / "data"
    shutil.copytree(pictures, root)
    stored = datasets.open_dataset(config(root).data).train
    labels = sources.stored_labels(stored)
    # A picture of the other class takes the place of the unreadable one.
    place = next(i for i in range(len(labels) - 1) if labels[i] == 1 and labels[i + 1] == 0)
    stored.records[place].image.write_text("no image")
    found = []
    for memory in ("arrays", "stream"):
        changes = {option: "balanced", "data.skip_bad": True, "data.memory": memory, "data.resize": 8}
        changes["train.length"] = "2 steps"  # in which each dark picture is drawn
        train.fit(config(root, **changes), tmp_path / memory)
        found.append(trained.load(tmp_path / memory).variables["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *found)
