"""Turns a published file of weights into a run, and a run into a file of weights.

    python -m common.weights import FILE --config=CONFIG [--workdir=DIR] [--config.SECTION.OPTION=VALUE ...]
    python -m common.weights export FILE --workdir=DIR

`import` needs the config of the network and of the data to test it on. It leaves a checkpoint at step 0 in DIR
(default runs/NAME, NAME being the file's), which every tool with a --workdir takes and `common.main` trains on from.
FILE may be a folder of Hugging Face's transformers. The config scales the pixels, so `config.data.normalize` must be
what the weights expect. --config.init.source names the publisher where the file's names do not (docs/weights.md).

`export` writes the checkpoint that --checkpoint names, with averaged parameters where the run keeps them. Arrays
have the names of the family's published files or, where there are none, our own ('params/conv1/kernel'). The file's
ending chooses the format: .npz, .safetensors, or .pth for PyTorch's `load_state_dict`.
"""

import functools
import pathlib

from absl import flags
from ml_collections import ConfigDict

from common import launch
from common.errors import UserError, unknown, user_path

TAKES_ARGUMENTS = True

_CONFIG = launch.define_config()
_CHECKPOINT = launch.define_checkpoint()
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run to make, or to write out", allow_override=True)


def main(action: str = "", file: str = "", *more: str) -> None:
    """Imports or exports the file that the command line names."""
    if action not in ("import", "export") or not file or more:
        if action not in ("import", "export", ""):
            raise unknown("action", action, ("import", "export"))
        raise UserError("expected: import FILE --config=CONFIG [--workdir=DIR], or: export FILE --workdir=DIR")
    path, folder = user_path(file), user_path(_WORKDIR.value or f"runs/{pathlib.Path(file).stem}")
    if action == "export":
        if not _WORKDIR.value:
            raise UserError("--workdir is missing: expected the folder of the run to export")
        print(export_file(path, folder, _CHECKPOINT.value or ""))
        return
    if _CONFIG.value is None:
        raise UserError("--config is missing; for example --config=configs/resnet_cifar10.py:resnet20")
    from common.pretrained import sources  # a slow import, after the flags are known to be right

    if not path.is_file() and not sources.is_folder(path):
        raise UserError(f"no file '{path}'")
    import_file(path, _CONFIG.value, folder)
    print(f"{folder}: {_CONFIG.value.model.variant} at step 0")
    print(f"test it: python -m common.main --mode=evaluate --workdir={folder}")


def import_file(path: pathlib.Path, config: ConfigDict, folder: pathlib.Path) -> None:
    """Makes the run that `config` describes in `folder`, at step 0, with the weights of a file.

    Training with `config.init.checkpoint` set to the file starts from the same state. UserError for a file that does
    not fit the network, and for a folder with checkpoints in it.
    """
    import jax

    from common import config as config_lib
    from common import models
    from common.data import datasets, pixel_statistics
    from common.optim.optimizers import make_optimizer
    from common.pretrained import initial, sources, weight_files
    from common.run import lock, workdir
    from common.run.checkpoints import Checkpoints
    from common.training.state import create_state

    config.init.checkpoint = str(path)
    config_lib.validate(config)
    if any(folder.glob("checkpoints/[0-9]*")):
        raise UserError(f"there is a run in {folder} already; choose another --workdir")
    arrays = weight_files.read(sources.file_of(path), config.init.entry)  # before any dataset is opened
    data = config.data.copy_and_resolve_references()
    if not pixel_statistics.needs_statistics(config):
        data.memory = "stream"  # no image is looked at
    dataset = datasets.load(data)
    classifier = models.make_classifier(config.model, dataset.info)
    optimizer, _ = make_optimizer(config, len(dataset.train))
    averaged = config.optimizer.ema > 0
    state = jax.jit(functools.partial(create_state, classifier, optimizer, config.seed, averaged))()
    state = initial.start(state, classifier, config, arrays=arrays)
    with lock.held(folder):
        workdir.open_workdir(folder, config, dataset.info)
        pixel_statistics.for_run(config, folder, dataset.train)
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(0, state, None)


def export_file(path: pathlib.Path, folder: pathlib.Path, checkpoint: str = "") -> str:
    """Writes the weights of the run in `folder` to a file; returns a line about it."""
    import jax
    import numpy as np

    from common.pretrained import initial, weight_files
    from common.run import trained

    weight_files.check_format(path)
    run = trained.load(folder, checkpoint)
    variables = jax.tree.map(np.asarray, run.variables)
    arrays, names = initial.published(run.config.model.family, variables, run.classifier.module)
    weight_files.write(path, arrays)
    return f"{path}: {len(arrays):,} arrays of {run.config.model.variant} at step {run.step:,}, under {names} names"


if __name__ == "__main__":
    launch.run(main)
