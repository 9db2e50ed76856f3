"""Turns a published file of weights into a run, and a run into a file of weights.

    python -m common.weights import FILE [--workdir=DIR] [--source=PUBLISHER]
        [--entry=NAME] [--config=CONFIG] [--config.SECTION.OPTION=VALUE ...]
    python -m common.weights export FILE --workdir=DIR [--source=PUBLISHER]

PUBLISHER is torchvision, timm, huggingface or google; for an import it may also be cifar or own.

`import` writes a checkpoint at step 0 into DIR (default runs/NAME, after the file or the folder). Every tool with a
--workdir takes it, and `common.main` trains on from it. FILE may be a folder of Hugging Face's transformers. The arrays
of a published file identify the network, the pixels' scale and often the classes; no dataset is needed. For other
files, or to test on a dataset, give a config of the network and the data. Then set `config.data.normalize` to what the
weights expect, and --config.init.source if the names in the file do not show the publisher (docs/weights.md).

`export` writes the checkpoint that --checkpoint names, with averaged parameters where the run keeps them. Arrays
have the names of the family's published files or, where there are none, our own ('params/conv1/kernel'). --source
chooses a library's names instead. If the network behind these names computes something else, a warning says so. The
file's ending chooses the format: .npz, .safetensors, or .pth for PyTorch's `load_state_dict`.
"""

import os
import pathlib
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import ConfigDict

from common import launch
from common.errors import UserError, unknown
from common.files import check_new, check_writable, quoted, user_path

if TYPE_CHECKING:  # slow imports come after the flags
    import numpy as np

    from common.data.dataset_info import Info
    from common.data.sources import Source

_CONFIG = launch.define_config()
_CHECKPOINT = launch.define_checkpoint()
_SOURCE = flags.DEFINE_string(
    "source", "", "publisher of an imported file, or of an exported one's names", allow_override=True
)
_ENTRY = flags.DEFINE_string(
    "entry", "", "network to take from a PyTorch file with several, as state_dict_ema", allow_override=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run to make, or to write out", allow_override=True)


def main(action: str = "", file: str = "", *more: str) -> None:
    """Imports or exports the file that the command line names."""
    if action not in ("import", "export") or not file or more:
        if action not in ("import", "export", ""):
            raise unknown("action", action, ("import", "export"))
        raise UserError("expected: import FILE [--workdir=DIR], or: export FILE --workdir=DIR")
    others = (_CHECKPOINT,) if action == "import" else (_CONFIG, _ENTRY)
    if unused := [f"--{flag.name}" for flag in others if flag.value]:
        raise UserError(f"{action} does not use {' and '.join(unused)}; leave that out")
    path = user_path(file)
    folder = user_path(_WORKDIR.value) if _WORKDIR.value else usual_folder(path)
    if action == "export":
        if not _WORKDIR.value:
            raise UserError("--workdir is missing: expected the folder of the run to export")
        print(export_file(path, folder, _CHECKPOINT.value, _SOURCE.value))
        return
    from common.data import decode
    from common.pretrained import hugging_face  # slow imports, after the flags are known to be right

    if not path.is_file() and not hugging_face.is_folder(path):
        if path.is_dir():
            raise UserError(f"no weights in '{path}'; a folder needs {' or '.join(hugging_face.FOLDER_FILES)}")
        raise UserError(f"no file '{path}'{decode.similar_name(path)}")
    if _CONFIG.value is None:
        print("\n".join(import_published(path, folder, _SOURCE.value or "auto", _ENTRY.value)))
        return
    for flag in (_SOURCE, _ENTRY):
        if flag.value and f"init.{flag.name}" in launch.given_options():
            raise UserError(f"--{flag.name} and --config.init.{flag.name} are the same option; leave one out")
        if flag.value:
            _CONFIG.value.init[flag.name] = flag.value
    import_file(path, _CONFIG.value, folder)
    print(f"{folder}: {_CONFIG.value.model.variant} at step 0")
    print(f"test it: python -m common.main --mode=evaluate --workdir={quoted(folder)}")


def usual_folder(path: pathlib.Path) -> pathlib.Path:
    """The folder of the run that an import makes without --workdir: it has the file's name without its ending.

    A folder gives its whole name, since what follows a dot there is no ending: timm's `resnet50.a1_in1k`.
    """
    whole = pathlib.Path(os.path.abspath(path))  # gives '.' a name; a link keeps its own
    return pathlib.Path("runs") / (whole.name if whole.is_dir() else whole.stem)


def import_published(path: pathlib.Path, folder: pathlib.Path, source: str = "auto", entry: str = "") -> list[str]:
    """Makes a run of a published file, whose arrays identify the network; needs no dataset. Returns lines about it.

    source, entry: as in `config.init`.
    Raises UserError for a file of no published network, and for a folder with checkpoints in it.
    """
    from common.config import SOURCES
    from common.pretrained import hugging_face, identify, weight_files

    if source not in SOURCES:
        raise unknown("--source", source, SOURCES)
    arrays = weight_files.read(hugging_face.file_of(path), entry)
    found = identify.identify(path, arrays, source)
    found.config.init.entry = entry
    _write_run(found.config, folder, arrays, found.info)
    use = (
        f"python -m common.predict --workdir={quoted(folder)} PHOTO"
        + " --embeddings=FILE.npz" * found.config.init.new_head
    )
    return [f"{folder}: {path.name} at step 0", *found.notes, f"use it: {use}"]


def import_file(path: pathlib.Path, config: ConfigDict, folder: pathlib.Path) -> None:
    """Makes the run that `config` describes in `folder`, at step 0, with the weights of a file.

    Training with `config.init.checkpoint` set to the file starts from the same state. Raises UserError for a file that
    does not fit the network, and for a folder with checkpoints in it.
    """
    from common import config_checks
    from common.data import datasets, pixel_statistics
    from common.pretrained import hugging_face, preprocessing, weight_files

    config.init.checkpoint = str(path)
    config_checks.validate(config)
    arrays = weight_files.read(hugging_face.file_of(path), config.init.entry)  # before any dataset is opened
    dataset = datasets.open_dataset(config.data)
    if pixel_statistics.needs_statistics(config):
        dataset = datasets.decoded(dataset, config.data, test=False)
    if said := preprocessing.compared(config, arrays, dataset.info.image_shape[0]):
        print(said)
    _write_run(config, folder, arrays, dataset.info, dataset.train)


def _write_run(
    config: ConfigDict,
    folder: pathlib.Path,
    arrays: dict[str, "np.ndarray"],
    info: "Info",
    train: "Source | None" = None,
) -> None:
    """Writes the checkpoint of step 0, with arrays that are taken out of the dictionary.

    train: gives the statistics of its pixels, where the config needs them.
    """
    from common import models
    from common.data import pixel_statistics
    from common.devices import mesh as mesh_lib
    from common.optim.optimizers import make_optimizer
    from common.pretrained import from_file
    from common.run import lock, workdir
    from common.run.checkpoints import Checkpoints

    if workdir.has_checkpoints(folder):
        raise UserError(f"there is a run in {folder} already; choose another --workdir")
    classifier = models.make_classifier(config.model, info)
    optimizer, _ = make_optimizer(config, info.train_size)
    mesh = mesh_lib.available(config.mesh)
    state = from_file.state_from_file(classifier, optimizer, config, mesh, arrays, info.class_names)
    with lock.held(folder):
        workdir.open_workdir(folder, config, info)
        if train is not None:
            pixel_statistics.for_training(config, folder, train)
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(0, state, None)


def export_file(path: pathlib.Path, folder: pathlib.Path, checkpoint: str = "", library: str = "") -> str:
    """Writes the weights of the run in `folder` to a new file, under a library's names if one is given; returns lines.

    Raises UserError for a file that exists, and for names that the network cannot have.
    """
    import jax
    import numpy as np

    from common.pretrained import initial, libraries, weight_files
    from common.run import trained

    weight_files.check_format(path)
    check_new(path, "FILE")
    check_writable(path)
    run = trained.load(folder, checkpoint)
    variables = jax.tree.map(np.asarray, run.variables)
    family, module = run.config.model.family, run.classifier.module
    if library:
        arrays, differs = libraries.for_library(family, variables, module, library)
        publisher, names = library, f"{library}'s"
    else:
        arrays, names = initial.published(family, variables, module)
        publisher, differs = libraries.differences(family, arrays, module)
    weight_files.write(path, arrays)
    line = f"{path}: {len(arrays):,} arrays of {run.config.model.variant} at step {run.step:,}, under {names} names"
    if not differs:
        return line
    return (
        f"{line}\nwarning: {publisher}'s own network computes something else with these weights: {differs}. To import "
        "them as this network, give --source=own and its --config"
    )


if __name__ == "__main__":
    launch.run(main)
