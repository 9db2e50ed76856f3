"""Prepares a TFDS dataset once, so that training can read it without TensorFlow and in any order.

    python -m common.prepare --dataset=mnist --data_dir=DIR [--manual_dir=DIR]

Downloads what TFDS can download, takes from --manual_dir the files that are there already or have to be fetched by
hand, and writes DIR/NAME/VERSION as ArrayRecord. Preparing TFDS's own datasets needs TensorFlow (`pip install -e
.[prepare]`); training on them, and preparing ours, does not.
"""

import contextlib
import fcntl
import gzip
import hashlib
import importlib.util
import math
import os
import pathlib
import shutil
import signal
import sys
import zlib
from collections.abc import Iterator
from typing import Any

from absl import flags, logging

from common import launch
from common.errors import UserError, user_path

_DATASET = flags.DEFINE_string("dataset", None, "TFDS's name: NAME or NAME/CONFIG; or one of ours, such as usps.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where prepared datasets are kept; empty is TFDS's default.")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "Folder with source files that are here already.")

# The magic numbers of MNIST's idx files and of those named like them (Fashion-MNIST, KMNIST).
_IDX_MAGIC = {"images-idx3": 2051, "labels-idx1": 2049}
_READ_BYTES = 2**20
_INCOMPLETE = "incomplete."  # the prefix of TFDS's unfinished folders, and of ours
_NEEDS_TENSORFLOW = "preparing this dataset needs TensorFlow (training on it does not): pip install -e .[prepare]"


def prepare_dataset(name: str, data_dir: str, manual_dir: str) -> str:
    """Prepares a dataset unless it is prepared already; returns a line that says which of the two it was.

    An attempt that fails or is killed leaves nothing in the way of the next one. UserError for an unknown name, for
    source files that are missing or damaged, and for a dataset that is prepared in another format.
    """
    from common.data import tfds_source

    found = tfds_source.find_prepared(name, data_dir)
    if found is not None:
        tfds_source.check_format(found, data_dir)
        return f"{found.info.full_name} is already prepared in {found.data_dir}"
    builder = tfds_source.registered_builder(name, data_dir, file_format=tfds_source.FILE_FORMAT)
    target = pathlib.Path(builder.data_dir)
    if target.exists():
        raise UserError(f"'{target}' is not a whole dataset; remove it, then prepare it again")
    if manual_dir:
        known = [info for info in (builder.url_infos or {}).values() if info.filename]
        check_manual_files(user_path(manual_dir), {info.filename: info.checksum for info in known})
    elif builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        raise UserError(f"'{name}' has to be fetched by hand and given as --manual_dir: {instructions}")
    if not tfds_source.is_ours(name) and importlib.util.find_spec("tensorflow") is None:
        raise UserError(_NEEDS_TENSORFLOW)
    with _alone_in(target.parent):
        _generate(builder, manual_dir)
    return f"{builder.info.full_name} is prepared in {target}"


def check_manual_files(folder: pathlib.Path, checksums: dict[str, str]) -> None:
    """UserError naming the first source file that is cut short or is not the file that its name promises.

    checksums: SHA-256, by name, of the files that TFDS would download. TFDS downloads those that the folder lacks,
    but it is an error if the folder has none of them.
    """
    if not folder.is_dir():
        raise UserError(f"no folder '{folder}' for --manual_dir")
    if checksums and not any((folder / name).exists() for name in checksums):
        raise UserError(f"'{folder}' (--manual_dir) has none of the files {', '.join(sorted(checksums))}")
    for path in sorted(folder.glob("*.gz")):
        _check_gzip(path)
    for name, expected in checksums.items():
        path = folder / name
        if path.exists() and (checksum := _sha256(path)) != expected:
            raise UserError(f"'{path}' is not the published file: its SHA-256 is {checksum}, expected {expected}")


def _check_gzip(path: pathlib.Path) -> None:
    try:
        with gzip.open(path, "rb") as file:
            header = file.read(16)
            size = len(header)
            while chunk := file.read(_READ_BYTES):  # to the end, where gzip has its checksum
                size += len(chunk)
    except EOFError as error:
        raise UserError(f"'{path}' is cut short: the gzip file ends too early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"'{path}' is not a sound gzip file: {error}") from error
    _check_idx(path, header, size)


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_idx(path: pathlib.Path, header: bytes, size: int) -> None:
    """UserError unless an idx file has the magic number of its name and the size that its header gives."""
    for part, expected in _IDX_MAGIC.items():
        if part not in path.name:
            continue
        magic = int.from_bytes(header[:4])
        if magic != expected:
            raise UserError(f"'{path}' starts with magic number {magic}, expected {expected}")
        axes = 1 if expected == _IDX_MAGIC["labels-idx1"] else 3
        shape = [int.from_bytes(header[4 * i : 4 * i + 4]) for i in range(1, axes + 1)]
        if size != 4 + 4 * axes + math.prod(shape):
            raise UserError(f"'{path}' has {size} bytes, expected {4 + 4 * axes + math.prod(shape)} for shape {shape}")


def _generate(builder: Any, manual_dir: str) -> None:
    """Downloads, extracts and writes the dataset; TFDS renames its folder once it is complete."""
    import tensorflow_datasets as tfds

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()  # which would fill a log
    # TFDS reuses extracted files by name alone, and would not notice that a source file was replaced.
    extracted = pathlib.Path(builder.data_dir).parent / f"{_INCOMPLETE}extracted"
    config = tfds.download.DownloadConfig(extract_dir=str(extracted), manual_dir=manual_dir or None)
    try:
        builder.download_and_prepare(download_config=config)
    except ImportError as error:
        raise UserError(_NEEDS_TENSORFLOW) from error
    except _failures() as error:
        raise UserError(f"'{builder.name}' cannot be prepared: {type(error).__name__}: {error}") from error


def _failures() -> tuple[type[Exception], ...]:
    """The errors with which TFDS fails to prepare a dataset."""
    from tensorflow_datasets.core.download import download_manager, extractor, util

    of_tfds = (download_manager.NonMatchingChecksumError, extractor.ExtractError, util.DownloadError)
    return OSError, ValueError, AssertionError, *of_tfds


@contextlib.contextmanager
def _alone_in(folder: pathlib.Path) -> Iterator[None]:
    """Locks the folder against other preparations, and removes the leftovers of a killed one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another process is preparing a dataset in {folder}") from error
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
    # nohup has SIGHUP ignored, and so it stays.
    asked = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, _terminate) for number in asked}
    try:
        _remove_incomplete(folder)
        yield
    finally:
        _remove_incomplete(folder)
        if not any(folder.iterdir()):
            folder.rmdir()
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(lock)


def _remove_incomplete(folder: pathlib.Path) -> None:
    for path in folder.glob(f"{_INCOMPLETE}*"):
        shutil.rmtree(path)


def _terminate(signum: int, frame: object) -> None:
    """Ends the process through every `finally`, with the exit code that a shell gives for the signal."""
    sys.exit(128 + signum)


def main() -> None:
    """Prepares the dataset that the flags name."""
    logging.set_verbosity(logging.ERROR)  # TFDS logs every file and every retry
    if not _DATASET.value:
        raise UserError("expected --dataset=NAME --data_dir=DIR [--manual_dir=DIR]")
    print(prepare_dataset(_DATASET.value, _DATA_DIR.value, _MANUAL_DIR.value))


if __name__ == "__main__":
    launch.run(main)
