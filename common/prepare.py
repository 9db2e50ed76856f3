"""Prepares a dataset once, in the TFDS format, so that training can read it in any order.

    python -m common.prepare --dataset=mnist --data_dir=DIR [--manual_dir=DIR]

Writes DIR/NAME/VERSION as ArrayRecord, from the files in --manual_dir or from downloads. MNIST, Fashion-MNIST,
CIFAR-10, CIFAR-100 and USPS are read from their original files here (`common/data/formats/builders`); TFDS prepares
its other datasets, which needs TensorFlow (`pip install -e '.[prepare]'`). Training never does.
"""

import contextlib
import fcntl
import importlib.util
import os
import pathlib
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags, logging

from common import launch
from common.data.formats import originals
from common.errors import UserError
from common.files import user_path
from common.processes import signals

_DATASET = flags.DEFINE_string("dataset", None, "name of the dataset in TFDS, NAME or NAME/CONFIG, or usps")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "folder of prepared datasets; default: TFDS's own")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "folder with source files that are here already")

_INCOMPLETE = "incomplete."  # the prefix of TFDS's unfinished folders, and of ours
_NEEDS_TENSORFLOW = "preparing this dataset needs TensorFlow (training on it does not): pip install -e '.[prepare]'"


def main() -> None:
    """Prepares the dataset that the flags name."""
    logging.set_verbosity(logging.ERROR)  # TFDS logs every file and every retry
    if not _DATASET.value:
        raise UserError("expected --dataset=NAME --data_dir=DIR [--manual_dir=DIR]")
    print(prepare_dataset(_DATASET.value, _DATA_DIR.value, _MANUAL_DIR.value))


def prepare_dataset(name: str, data_dir: str, manual_dir: str) -> str:
    """Prepares a dataset unless it is prepared already; returns a line that says which was the case.

    An attempt that fails or is killed leaves nothing in the way of the next one. Raises UserError for an unknown name,
    for missing or damaged source files, and for a dataset that is prepared in another format.
    """
    from common.data import decode
    from common.data.formats import tfds_source

    found = tfds_source.find_prepared(name, data_dir)
    if found is not None:
        tfds_source.check_format(found, data_dir)
        return f"{found.info.full_name} is already prepared in {found.data_dir}"
    builder = tfds_source.registered_builder(name, data_dir, file_format=tfds_source.FILE_FORMAT)
    target = pathlib.Path(builder.data_dir)
    if target.exists():
        raise UserError(f"'{target}' is not a complete dataset; remove it, then prepare it again")
    ours = tfds_source.is_ours(name)
    manual = user_path(manual_dir) if manual_dir else None
    if manual and not manual.is_dir():
        raise UserError(f"no folder '{manual}' for --manual_dir{decode.similar_name(manual)}")
    if manual and ours:
        _check_originals(manual, builder.ORIGINALS)
    elif manual:
        known = [info for info in (builder.url_infos or {}).values() if info.filename]
        check_manual_files(manual, {info.filename: f"sha256:{info.checksum}" for info in known})
    elif builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not ours:
        instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        raise UserError(f"'{name}' has to be fetched by hand and given as --manual_dir: {instructions}")
    if not ours and importlib.util.find_spec("tensorflow") is None:
        raise UserError(_NEEDS_TENSORFLOW)
    with _alone_in(target.parent):
        if ours and manual is None:
            manual = _download(builder.ORIGINALS[0], target.parents[1] / "downloads" / builder.name)
        _generate(builder, manual)
    return f"{builder.info.full_name} is prepared in {target}"


def check_manual_files(folder: pathlib.Path, checksums: dict[str, str]) -> None:
    """Raises a UserError that names the first source file that is cut short or not the one that its name promises.

    checksums: file name -> checksum, of the files that TFDS would download. TFDS downloads those that the folder lacks,
    but a folder with none of them is an error.
    """
    if checksums and not any((folder / name).exists() for name in checksums):
        raise UserError(f"'{folder}' (--manual_dir) has none of the files {', '.join(sorted(checksums))}")
    found = {path.name for path in folder.glob("*.gz")} | {name for name in checksums if (folder / name).exists()}
    for name in sorted(found):
        originals.check(folder / name, checksums.get(name, ""))


def _check_originals(folder: pathlib.Path, sets: Sequence[originals.Files]) -> None:
    """Raises UserError unless the folder has one of these sets of files, as published."""
    for file in originals.find(folder, sets):
        originals.check(folder / file.name, file.checksum)


def _download(files: originals.Files, folder: pathlib.Path) -> pathlib.Path:
    """Downloads the files into the folder and returns it; if one fails, the earlier ones stay for the next attempt."""
    try:
        for file in files:
            print(f"fetching {file.name}", flush=True)
            originals.download(file, folder)
    finally:
        for place in (folder, folder.parent):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
    return folder


def _generate(builder: Any, manual_dir: pathlib.Path | None) -> None:
    """Downloads, extracts and writes the dataset; TFDS renames its folder once it is complete."""
    import tensorflow_datasets as tfds

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()  # which would fill a log
    # TFDS reuses extracted files by name alone, and would not notice that a source file was replaced.
    extracted = pathlib.Path(builder.data_dir).parent / f"{_INCOMPLETE}extracted"
    config = tfds.download.DownloadConfig(extract_dir=str(extracted), manual_dir=manual_dir and str(manual_dir))
    try:
        builder.download_and_prepare(download_config=config)
    except ImportError as error:
        raise UserError(_NEEDS_TENSORFLOW) from error
    except _failures() as error:
        raise UserError(f"'{builder.name}' cannot be prepared: {type(error).__name__}: {error}") from error


def _failures() -> tuple[type[Exception], ...]:
    """The errors that TFDS raises when it cannot prepare a dataset."""
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
    with signals.handled((signal.SIGTERM, signal.SIGHUP), _terminate):
        try:
            _remove_incomplete(folder)
            yield
        finally:
            _remove_incomplete(folder)
            if not any(folder.iterdir()):
                folder.rmdir()
            os.close(lock)


def _remove_incomplete(folder: pathlib.Path) -> None:
    for path in folder.glob(f"{_INCOMPLETE}*"):
        shutil.rmtree(path)


def _terminate(signum: int, frame: object) -> None:
    """Ends the process through every `finally`, with the exit code that a shell gives for the signal."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    launch.run(main)
