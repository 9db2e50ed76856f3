"""The command that prepares datasets, and its checks of the source files."""

import gzip
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from common import prepare
from common.data import datasets
from common.errors import UserError
from tests.runs import ROOT, refused

VALUES = " ".join(f"{value:.3f}" for value in np.linspace(-1, 1, 256))


def usps_files(folder: pathlib.Path, train: int = 12, test: int = 5) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    for split, count in (("train", train), ("test", test)):
        with gzip.open(folder / f"zip.{split}.gz", "wt", compresslevel=1) as file:
            for i in range(count):
                file.write(f"{i % 10}.0 {VALUES}\n")
    return folder


def idx_file(path: pathlib.Path, magic: int, shape: tuple[int, ...], size: int) -> None:
    header = b"".join(number.to_bytes(4) for number in (magic, *shape))
    path.write_bytes(gzip.compress(header + bytes(size)))


def test_usps_is_prepared_and_read_without_tensorflow(tmp_path, data_config, capfd):
    manual = usps_files(tmp_path / "manual")
    done = prepare.prepare_dataset("usps", str(tmp_path / "tfds"), str(manual))
    assert capfd.readouterr().err == ""  # no progress bar, since it is no terminal
    assert done == f"usps/1.0.0 is prepared in {tmp_path}/tfds/usps/1.0.0"
    dataset = datasets.load(data_config(source="tfds:usps", directory=str(tmp_path / "tfds")))
    assert (dataset.info.train_size, dataset.info.test_size, dataset.info.image_shape) == (12, 5, (16, 16, 1))
    assert dataset.train.images.dtype == np.float32
    assert sorted(dataset.test.labels.tolist()) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(dataset.test.images[0].ravel(), np.linspace(-1, 1, 256), atol=1e-3)


def test_preparing_twice_says_so(tmp_path):
    manual, directory = usps_files(tmp_path / "manual"), str(tmp_path / "tfds")
    prepare.prepare_dataset("usps", directory, str(manual))
    stamp = (tmp_path / "tfds/usps/1.0.0/dataset_info.json").stat().st_mtime_ns
    assert prepare.prepare_dataset("usps", directory, "").startswith("usps/1.0.0 is already prepared in")
    assert (tmp_path / "tfds/usps/1.0.0/dataset_info.json").stat().st_mtime_ns == stamp


@pytest.mark.slow  # tests/data/test_usps.py counts them, and the tests above prepare digits like them
def test_the_published_usps_digits(tmp_path, shared_data, data_config):
    prepare.prepare_dataset("usps", str(tmp_path), str(shared_data / "usps"))
    dataset = datasets.load(data_config(source="tfds:usps", directory=str(tmp_path)))
    assert np.bincount(dataset.train.labels).tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert np.bincount(dataset.test.labels).tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    assert dataset.test.images.mean(dtype=np.float64) == pytest.approx(-0.4648, abs=5e-5)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_without_tensorflow_the_extra_is_named(tmp_path):
    with pytest.raises(UserError, match=r"needs TensorFlow.*pip install -e '\.\[prepare\]'"):
        prepare.prepare_dataset("kmnist", str(tmp_path), "")


def test_a_dataset_fetched_by_hand_says_what_to_fetch(tmp_path):
    with pytest.raises(UserError, match=r"by hand and given as --manual_dir.*ILSVRC2012_img_train\.tar"):
        prepare.prepare_dataset("imagenet2012", str(tmp_path), "")


def test_a_bad_source_file_leaves_nothing_behind(tmp_path):
    manual = usps_files(tmp_path / "manual")
    with gzip.open(manual / "zip.test.gz", "at") as file:
        file.write("3.0 0.5\n")
    with pytest.raises(UserError, match=r"zip\.test\.gz, line 6: got 2 columns, expected 257"):
        prepare.prepare_dataset("usps", str(tmp_path / "tfds"), str(manual))
    assert not (tmp_path / "tfds" / "usps").exists()
    prepare.prepare_dataset("usps", str(tmp_path / "tfds"), str(usps_files(manual)))


def test_leftovers_of_a_killed_attempt_are_removed(tmp_path):
    leftover = tmp_path / "tfds" / "usps" / "incomplete.ABCDEF_1.0.0"
    leftover.mkdir(parents=True)
    (leftover / "usps-train.array_record-00000-of-00001").write_bytes(bytes(10))
    prepare.prepare_dataset("usps", str(tmp_path / "tfds"), str(usps_files(tmp_path / "manual")))
    assert [path.name for path in (tmp_path / "tfds" / "usps").iterdir()] == ["1.0.0"]


def test_a_folder_that_is_not_a_dataset_is_refused(tmp_path):
    (tmp_path / "usps" / "1.0.0").mkdir(parents=True)
    with pytest.raises(UserError, match="usps/1.0.0' is not a complete dataset"):
        prepare.prepare_dataset("usps", str(tmp_path), str(usps_files(tmp_path / "manual")))


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_preparation_that_is_ended_can_be_started_again(tmp_path, end):
    manual = usps_files(tmp_path / "manual", train=12_000)  # long enough to be ended
    flags = ("--dataset=usps", f"--data_dir={tmp_path}/tfds", f"--manual_dir={manual}")
    process = subprocess.Popen(
        # At the lowest priority, so that on a busy machine it is ended before it is finished.
        ["nice", "-n", "19", sys.executable, "-m", "common.prepare", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    process.stdout.read(1)  # TFDS's first word: it has begun
    os.kill(process.pid, end)
    process.communicate(timeout=60)
    assert process.returncode == (-end if end == signal.SIGKILL else 128 + end)
    assert not (tmp_path / "tfds" / "usps" / "1.0.0").exists()
    if end != signal.SIGKILL:
        assert not (tmp_path / "tfds" / "usps").exists()
    # A shorter file than that shows it as well.
    assert "is prepared" in prepare.prepare_dataset("usps", str(tmp_path / "tfds"), str(usps_files(manual)))


@pytest.mark.parametrize(
    ("name", "magic", "shape", "size", "says"),
    [
        ("train-images-idx3-ubyte.gz", 2049, (2, 3, 3), 18, "magic number 2049, expected 2051"),
        ("t10k-labels-idx1-ubyte.gz", 2051, (2,), 2, "magic number 2051, expected 2049"),
        ("train-images-idx3-ubyte.gz", 2051, (2, 3, 3), 17, "has 33 bytes, expected 34"),
        ("t10k-labels-idx1-ubyte.gz", 2049, (5,), 6, "has 14 bytes, expected 13"),
    ],
)
def test_an_idx_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, magic, shape, size, says):
    idx_file(tmp_path / name, magic, shape, size)
    with pytest.raises(UserError, match=f"{name}.*{says}"):
        prepare.check_manual_files(tmp_path, {})


def test_sound_source_files_pass(tmp_path):
    idx_file(tmp_path / "train-images-idx3-ubyte.gz", 2051, (2, 3, 3), 18)
    idx_file(tmp_path / "train-labels-idx1-ubyte.gz", 2049, (2,), 2)
    prepare.check_manual_files(usps_files(tmp_path), {})


def test_a_source_file_that_is_cut_short_is_named(tmp_path):
    path = usps_files(tmp_path) / "zip.test.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"zip\.test\.gz' is cut short"):
        prepare.check_manual_files(tmp_path, {})
    path.write_text("not compressed")
    with pytest.raises(UserError, match=r"zip\.test\.gz' is not a sound gzip file"):
        prepare.check_manual_files(tmp_path, {})


def test_a_file_other_than_the_published_one_is_named(tmp_path):
    (tmp_path / "data.tar").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"data\.tar' is not the published file.*expected sha256:00ff"):
        prepare.check_manual_files(tmp_path, {"data.tar": "sha256:00ff", "more.tar": "0"})
    with pytest.raises(UserError, match=r"has none of the files more\.tar"):
        prepare.check_manual_files(tmp_path, {"more.tar": "0"})


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path):
    (tmp_path / "originals").mkdir()
    for flags, says in (
        ([], "expected --dataset=NAME"),
        (["--dataset=usbs"], "unknown TFDS dataset 'usbs'; did you mean 'usps'?"),
        (["--dataset=MNIST"], "unknown TFDS dataset 'MNIST'; did you mean 'mnist'?"),
        (
            ["--dataset=fashion-mnist:3.0.1"],
            "unknown TFDS dataset 'fashion-mnist:3.0.1'; did you mean 'fashion_mnist'?",
        ),
        (["--dataset=USPS"], "unknown TFDS dataset 'USPS'; did you mean 'usps'?"),
        (["--dataset=qwertz"], "unknown TFDS dataset 'qwertz' (known: cifar10, cifar100, fashion_mnist, mnist, usps)"),
        (["--dataset=usps", f"--manual_dir={tmp_path}/orignals"], f"did you mean '{tmp_path}/originals'?"),
    ):
        assert says in refused(*flags, f"--data_dir={tmp_path}", module="common.prepare")
