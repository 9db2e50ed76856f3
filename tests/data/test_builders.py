"""Datasets from small files in the form of the published ones, and the published ones where they are."""

import bz2
import gzip
import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from common import prepare
from common.data import datasets
from common.data.formats import builders, originals
from common.data.formats.builders import cifar, mnist, usps
from common.errors import UserError

COUNTS = {"train": 6, "test": 3}
# The SHA-256 of MNIST's training images in the order in which TFDS, with TensorFlow, prepared them.
TRAIN_IN_ORDER = "59edd5ea35c0062957306cacba8ae47e71e2c56261f4ca10230aacc14943dd3b"
COARSE, FINE = [f"kind_{i}" for i in range(20)], [f"thing_{i}" for i in range(100)]


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4) for length in array.shape)
    return gzip.compress(header + array.tobytes())


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def images(split: str, *shape: int) -> np.ndarray:
    return np.random.default_rng(len(split)).integers(0, 256, (COUNTS[split], *shape), np.uint8)


def labels(split: str) -> np.ndarray:
    return np.arange(COUNTS[split], dtype=np.uint8)


def python_archive(batches: dict[str, tuple[str, slice]], keys: tuple[str, ...], meta: tuple[str, dict]) -> bytes:
    members = {meta[0]: pickle.dumps({key.encode(): [n.encode() for n in v] for key, v in meta[1].items()}, protocol=2)}
    for name, (split, part) in batches.items():
        table = {b"data": images(split, 3072)[part]} | {key.encode(): labels(split)[part].tolist() for key in keys}
        members[name] = pickle.dumps(table, protocol=2)
    return archive(members)


def binary_archive(batches: dict[str, tuple[str, slice]], columns: int, names: dict[str, list[str]]) -> bytes:
    members = {name: ("\n".join(values) + "\n\n").encode() for name, values in names.items()}
    for name, (split, part) in batches.items():
        members[name] = np.hstack([labels(split)[part, None]] * columns + [images(split, 3072)[part]]).tobytes()
    return archive(members)


def idx_files() -> dict[str, bytes]:
    parts = {"train": "train", "test": "t10k"}
    return {
        f"{part}-{name}-ubyte.gz": idx(values)
        for split, part in parts.items()
        for name, values in (("images-idx3", images(split, 28, 28)), ("labels-idx1", labels(split)))
    }


def cifar10_files() -> dict[str, bytes]:
    parts = {f"data_batch_{i + 1}": ("train", slice(i, i + 1) if i < 4 else slice(4, None)) for i in range(5)}
    parts["test_batch"] = ("test", slice(None))
    binary = binary_archive({f"{name}.bin": part for name, part in parts.items()}, 1, {"batches.meta.txt": FINE[:10]})
    return {
        "cifar-10-python.tar.gz": python_archive(parts, ("labels",), ("batches.meta", {"label_names": FINE[:10]})),
        "cifar-10-binary.tar.gz": binary,
    }


def cifar100_files() -> dict[str, bytes]:
    parts = {split: (split, slice(None)) for split in COUNTS}
    names = {"coarse_label_names": COARSE, "fine_label_names": FINE}
    binary = {f"{split}.bin": part for split, part in parts.items()}
    return {
        "cifar-100-python.tar.gz": python_archive(parts, ("fine_labels", "coarse_labels"), ("meta", names)),
        "cifar-100-binary.tar.gz": binary_archive(binary, 2, {f"{name}.txt": names[name] for name in names}),
    }


def libsvm_files() -> dict[str, bytes]:
    return {
        name: bz2.compress(usps_lines(split, 1, "{}:{}"))
        for name, split in (("usps.bz2", "train"), ("usps.t.bz2", "test"))
    }


def zip_files() -> dict[str, bytes]:
    return {f"zip.{split}.gz": gzip.compress(usps_lines(split, 0, "{1}")) for split in COUNTS}


def usps_lines(split: str, first: int, value: str) -> bytes:
    grey = (images(split, 256) / 255 * 2 - 1).round(3)
    rows = (" ".join(value.format(i, v) for i, v in enumerate(row, 1)) for row in grey)
    return "".join(f"{label + first} {row}\n" for label, row in zip(labels(split), rows, strict=True)).encode()


@pytest.fixture
def publish(monkeypatch, tmp_path):
    """Puts files into a folder of their own, and their checksums in the place of the published ones."""

    def put(name: str, files: dict[str, bytes]) -> str:
        folder = tmp_path / f"files{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        kind = builders.builder_class(name)
        checksums = {file: f"sha256:{hashlib.sha256(content).hexdigest()}" for file, content in files.items()}
        sets = [{file.name: checksums.get(file.name, "") for file in one} for one in kind.ORIGINALS]
        monkeypatch.setattr(kind, "ORIGINALS", tuple(originals.published(one, (f"file://{folder}/",)) for one in sets))
        return str(folder)

    return put


@pytest.fixture
def load(data_config, tmp_path):
    """Prepares a dataset from a folder ('' downloads) and opens it; its examples in the order of their labels."""

    def prepared(name: str, folder: str):
        directory = str(tmp_path / f"tfds{len(list(tmp_path.iterdir()))}")
        prepare.prepare_dataset(name, directory, folder)
        dataset = datasets.load(data_config(source=f"tfds:{name}", directory=directory))
        order = {split: np.argsort(getattr(dataset, split).labels) for split in COUNTS}
        for split in COUNTS:
            assert getattr(dataset, split).labels[order[split]].tolist() == list(range(COUNTS[split]))
        return dataset.info, {split: getattr(dataset, split).images[order[split]] for split in COUNTS}

    return prepared


@pytest.mark.parametrize(("name", "first"), [("mnist", "0"), ("fashion_mnist", "T-shirt/top")])
def test_idx_files_are_downloaded_and_prepared(publish, load, name, first):
    publish(name, idx_files())
    info, pixels = load(name, "")
    assert (info.name, info.num_classes, info.class_names[0], info.image_shape) == (name, 10, first, (28, 28, 1))
    assert not info.float_images
    for split in COUNTS:
        np.testing.assert_array_equal(pixels[split][..., 0], images(split, 28, 28))


@pytest.mark.parametrize(
    ("name", "files", "classes"), [("cifar10", cifar10_files, 10), ("cifar100", cifar100_files, 100)]
)
def test_either_archive_gives_the_same_images(publish, load, name, files, classes):
    for one, content in files().items():
        info, pixels = load(name, publish(name, {one: content}))
        assert (info.class_names, info.image_shape) == (tuple(FINE[:classes]), (32, 32, 3))
        for split in COUNTS:  # stored plane by plane
            planes = images(split, 3072).reshape(-1, 3, 32, 32)
            np.testing.assert_array_equal(pixels[split], np.moveaxis(planes, 1, -1))


def test_both_forms_of_usps_give_the_same_digits(publish, load):
    (info, first), (_, second) = (load("usps", publish("usps", files())) for files in (libsvm_files, zip_files))
    assert (info.image_shape, info.float_images) == ((16, 16, 1), True)
    for split in COUNTS:
        np.testing.assert_array_equal(first[split], second[split])
        np.testing.assert_allclose(first[split].reshape(-1, 256), images(split, 256) / 255 * 2 - 1, atol=6e-4)


def test_a_file_that_was_changed_or_cut_short_is_named_and_nothing_written(publish, load, tmp_path):
    files = idx_files()
    folder = publish("mnist", files)
    for path, content, says in (
        ("t10k-labels-idx1-ubyte.gz", files["t10k-labels-idx1-ubyte.gz"][:-9], "is cut short"),
        ("t10k-labels-idx1-ubyte.gz", idx(labels("train")), "is not the published file"),
    ):
        (tmp_path / folder / path).write_bytes(content)
        with pytest.raises(UserError, match=f"{path}' {says}"):
            prepare.prepare_dataset("mnist", str(tmp_path / "tfds"), folder)
    os.remove(os.path.join(folder, path))
    for source in (folder, ""):
        with pytest.raises(UserError, match=path):
            prepare.prepare_dataset("mnist", str(tmp_path / "tfds"), source)
        assert not (tmp_path / "tfds" / "mnist").exists()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"meta": pickle.dumps(os.system)}, "asks for .*system, expected only arrays"),
        ({"meta": b"no pickle"}, "is damaged"),
        ({}, "has no 'meta'"),
    ],
)
def test_an_archive_with_other_contents_is_refused(tmp_path, members, says):
    path = tmp_path / "cifar-100-python.tar.gz"
    path.write_bytes(archive(members))
    with pytest.raises(UserError, match=says):
        cifar.read(path, cifar.Cifar100.FORMATS[path.name])


def test_libsvm_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "usps.bz2"
    for line, says in ((b"0 1:0.5\n", "other labels"), (b"1 1:1.5\n", "outside"), (b"1 257:0\n", "256 values a line")):
        path.write_bytes(bz2.compress(line))
        with pytest.raises(UserError, match=says):
            usps.read_libsvm(path)


def test_the_published_mnist_digits_are_read(shared_data):
    folder = shared_data / "mnist"
    for file in mnist.Mnist.ORIGINALS[0]:
        originals.check(folder / file.name, file.checksum)
    pixels = mnist.read_idx(folder / "t10k-images-idx3-ubyte.gz")
    assert pixels.shape == (10000, 28, 28)
    assert pixels.mean() / 255 == pytest.approx(0.1325, abs=5e-5)
    counts = np.bincount(mnist.read_idx(folder / "t10k-labels-idx1-ubyte.gz"))
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.slow  # the tests above prepare files like them, and read these
def test_the_published_mnist_digits_have_the_order_of_tfds(tmp_path, shared_data, data_config):
    prepare.prepare_dataset("mnist", str(tmp_path), str(shared_data / "mnist"))
    dataset = datasets.load(data_config(source="tfds:mnist", directory=str(tmp_path)))
    assert hashlib.sha256(dataset.train.images).hexdigest() == TRAIN_IN_ORDER
    assert dataset.train.labels[:10].tolist() == [4, 1, 0, 7, 8, 1, 2, 7, 1, 6]
