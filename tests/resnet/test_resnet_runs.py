"""A user's runs of a small ResNet: numbers of devices that change, impossible groups, the wrong stem."""

import json

import pytest

from tests.runs import run

SMALL = (
    "--config=configs/resnet_digits.py",
    "--config.model.stage_sizes=(1, 1)",
    "--config.model.width=4",
    "--config.data.resize=8",
    "--config.model.batch_groups=2",
    "--config.mesh.devices=0",
    "--config.schedule.name=constant",
    "--config.schedule.learning_rate=0.02",
    "--config.schedule.warmup=0 steps",
    "--config.train.log_every=1 steps",
    "--config.checkpoint.every=2 steps",
    "--config.evaluate.every=4 steps",
)


def trained(folder, length, devices):
    code, output, errors = run(*SMALL, f"--config.train.length={length} steps", f"--workdir={folder}", devices=devices)
    assert code == 0, errors
    assert "batch normalisation: statistics of each of 2 groups of a batch" in output
    assert "activations that the backward pass needs" in output
    return output, json.loads((folder / "summary.json").read_text())


@pytest.mark.slow  # checkpoints of any layout restore on any other, and every mode has the losses of one device
def test_a_run_goes_on_with_other_devices_as_if_nothing_had_happened(tmp_path):
    _, unbroken = trained(tmp_path / "unbroken", 4, devices=1)
    trained(tmp_path / "moved", 2, devices=8)
    output, moved = trained(tmp_path / "moved", 4, devices=2)
    assert "going on from step 2" in output
    for split in ("train", "test"):
        assert moved[split]["loss"] == pytest.approx(unbroken[split]["loss"], rel=1e-3)
    # 359 test images are padded to a batch of 1,000 that is split over devices, and each is counted once.
    assert moved["test"]["examples"] == unbroken["test"]["examples"] == 359


@pytest.mark.slow
def test_the_terminal_names_the_cifar_variant_and_why_groups_cannot_be(tmp_path):
    options = ("--config=configs/resnet_imagenet.py:resnet18", "--config.data.source=digits", "--config.data.resize=32")
    options += ("--config.data.crop=0", "--config.data.resize_max=0", "--config.data.train_crop=centre")
    options += ("--config.data.test_split=test", "--config.train.batch_size=8", f"--workdir={tmp_path}")
    options += ("--config.model.stage_sizes=(1, 1, 1, 1)", "--config.model.width=4")
    code, _, errors = run(*options)
    assert code == 2
    warning, error = errors.strip().splitlines()
    assert "have 32 pixels a side: the CIFAR variant resnet20 keeps more" in warning
    assert "--config=configs/resnet_cifar10.py:resnet20" in warning
    assert error.startswith("error: batch normalisation in training needs two examples or more in each group")
