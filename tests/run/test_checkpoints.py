"""Damage to a checkpoint: found when it is read, and confined to that checkpoint."""

import errno
import functools
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from common.devices import mesh as mesh_lib
from common.errors import UserError
from common.models import Classifier
from common.nn.losses import cross_entropy
from common.run import checkpoints
from common.run.checkpoints import Checkpoints
from common.training.state import create_state

MESH = mesh_lib.make_mesh(ConfigDict({"devices": 1, "fsdp": 1}))
STEPS = (20, 30, 40)


class Net(nn.Module):
    """One dense layer."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(10)(images.reshape(len(images), -1))


@functools.cache
def state(step=0):
    classifier = Classifier(Net(), cross_entropy, lambda outputs: outputs, (2, 2, 30), 10)
    return create_state(classifier, optax.adam(0.1, mu_dtype="bfloat16"), seed=step).replace(
        step=jnp.asarray(step, jnp.int32)
    )


LIKE = jax.eval_shape(state)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Three checkpoints; the second has the lowest error."""
    folder = tmp_path_factory.mktemp("original")
    with Checkpoints(folder, keep=3) as saved:
        for step, error in zip(STEPS, (0.3, 0.1, 0.2), strict=True):
            saved.save(step, state(step), error)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path


def restored(folder):
    found = checkpoints.restore_latest(folder, LIKE, MESH)
    assert found is not None
    jax.tree.map(np.testing.assert_array_equal, found, state(int(found.step)))
    return int(found.step)


def test_the_newest_is_restored_and_the_best_is_the_one_with_the_lowest_error(folder):
    assert restored(folder) == 40
    assert checkpoints.steps(folder) == list(STEPS)
    assert checkpoints.best_first(folder) == [30, 40, 20]


def files(folder):
    return sorted(path for path in (folder / "checkpoints" / "40").rglob("*") if path.is_file())


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "deleted": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize(
    "damage", [one if one == "cut" else pytest.param(one, marks=pytest.mark.slow) for one in DAMAGES]
)
def test_damage_to_any_file_does_not_spoil_another_checkpoint(original, damage, tmp_path):
    for number, path in enumerate(files(original)):
        folder = tmp_path / str(number)
        shutil.copytree(original, folder)
        DAMAGES[damage](folder / path.relative_to(original))
        assert restored(folder) in (30, 40), path  # some files are not needed
        kept = {int(path.name) for path in (folder / "damaged").glob("*")} | set(checkpoints.steps(folder))
        assert kept == set(STEPS)
        with Checkpoints(folder, keep=3) as saved:
            saved.save(50, state(50), 0.2)
        assert restored(folder) == 50


def test_every_flipped_bit_of_the_arrays_is_noticed(original, tmp_path):
    rng = np.random.default_rng(0)
    data = [path for path in files(original) if path.stat().st_size > 500 and "/d/" in path.as_posix()]
    assert data
    for number in range(12):
        folder = tmp_path / str(number)
        shutil.copytree(original, folder)
        path = folder / data[number % len(data)].relative_to(original)
        flip(path, int(rng.integers(path.stat().st_size)), int(rng.integers(8)))
        assert restored(folder) in (30, 40)  # equal to what was saved, whichever it is


def test_a_flipped_bit_anywhere_in_an_array_changes_its_checksum(folder):
    # The arrays are stored compressed, so this flips them where they are compared.
    metadata = folder / "checkpoints" / "40" / "_CHECKPOINT_METADATA"
    content = json.loads(metadata.read_text())
    sums = content["custom_metadata"]["checksums"]
    assert len(sums) == len(jax.tree.leaves(LIKE))
    for name in sums:
        changed = {**content, "custom_metadata": {"checksums": {**sums, name: sums[name] ^ 1}}}
        metadata.write_text(json.dumps(changed))
        with pytest.raises(checkpoints.Unreadable, match="checksum"):
            checkpoints.restore(folder, 40, LIKE, MESH)


@pytest.mark.parametrize("remains", ["nothing", "no default", "an empty newer folder"])
def test_an_incomplete_newest_checkpoint_does_not_spoil_the_others(folder, remains, caplog):
    newest = folder / "checkpoints" / "40"
    if remains == "nothing":
        for path in newest.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif remains == "no default":
        shutil.rmtree(newest / "default")
    else:
        (folder / "checkpoints" / "99").mkdir()
    assert restored(folder) == (40 if remains == "an empty newer folder" else 30)
    assert checkpoints.steps(folder) == ([20, 30, 40] if remains == "an empty newer folder" else [20, 30])


def test_a_damaged_checkpoint_is_set_aside_from_another_disk(folder, monkeypatch):
    shutil.rmtree(folder / "checkpoints" / "40" / "default")

    def refused(source, target, **_):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)

    monkeypatch.setattr(os, "rename", refused)
    assert restored(folder) == 30
    assert checkpoints.steps(folder) == [20, 30]
    assert (folder / "damaged" / "40" / "_CHECKPOINT_METADATA").exists()


def test_files_are_not_blamed_for_a_lack_of_memory_or_a_broken_connection(folder, monkeypatch):
    def fails(*arguments, **options):
        raise jax.errors.JaxRuntimeError("UNKNOWN: Gloo context initialization failed")

    with Checkpoints(folder, keep=3) as saved, monkeypatch.context() as patched:
        patched.setattr(ocp.CheckpointManager, "save", fails)
        with pytest.raises(jax.errors.JaxRuntimeError, match="Gloo"):
            saved.save(50, state(50), 0.2)
    monkeypatch.setattr(ocp.StandardCheckpointer, "restore", fails)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Gloo"):
        checkpoints.restore_latest(folder, LIKE, MESH)
    assert checkpoints.steps(folder) == list(STEPS)


def test_leftovers_of_an_interrupted_save_are_removed_when_the_run_goes_on(folder):
    shutil.copytree(folder / "checkpoints" / "40", folder / "checkpoints" / "47.orbax-checkpoint-tmp")
    with Checkpoints(folder, keep=3) as saved:
        saved.save(50, state(50), 0.2)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["30", "40", "50"]
    assert restored(folder) == 50


def test_no_checkpoint_is_moved_if_none_can_be_read(folder):
    for step in STEPS:
        shutil.rmtree(folder / "checkpoints" / str(step) / "default")
    with pytest.raises(UserError, match=r"none of the checkpoints in .* can be read \(checkpoint .*40"):
        checkpoints.restore_latest(folder, LIKE, MESH)
    assert checkpoints.steps(folder) == list(STEPS)
    assert not (folder / "damaged").exists()


def test_a_checkpoint_of_another_network_is_not_taken_for_a_damaged_one(folder):
    other = jax.eval_shape(lambda: state().replace(params={"Dense_0": {"kernel": jnp.zeros((3, 3))}}))
    with pytest.raises(UserError, match="holds another network"):
        checkpoints.restore_latest(folder, other, MESH)
    assert checkpoints.steps(folder) == list(STEPS)


def test_a_checkpoint_without_checksums_is_read(folder):
    metadata = folder / "checkpoints" / "40" / "_CHECKPOINT_METADATA"
    content = json.loads(metadata.read_text())
    metadata.write_text(json.dumps({**content, "custom_metadata": {}}))
    assert restored(folder) == 40
