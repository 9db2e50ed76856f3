"""Files of weights: a published one made a run, and a run made a file.

    python -m common.weights import FILE --config=CONFIG [--workdir=DIR] [--config.SECTION.OPTION=VALUE ...]
    python -m common.weights export FILE --workdir=DIR

`import` needs the config of the network and of the data that it is to be tested on, and leaves in DIR (default
runs/NAME, NAME being the file's) a checkpoint at step 0: whatever takes a --workdir takes it, and `common.main` trains
on from there. How pixels are scaled is the config's: `config.data.normalize` has to be what the weights expect.

`export` writes the checkpoint with the lowest test error, averaged parameters where the run keeps them. Arrays have
the names of the family's published files and, where there are none, our own ('params/conv1/kernel'). The file's ending
says its format: .npz, .safetensors, or PyTorch's .pth, which its `load_state_dict` takes.
"""

import functools
import pathlib

from absl import flags
from ml_collections import ConfigDict

from common import launch
from common.errors import UserError, unknown

TAKES_ARGUMENTS = True

_CONFIG = launch.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run that is made, or written out", allow_override=True)


def main(action: str = "", file: str = "", *more: str) -> None:
    """Do what the command line says."""
    if action not in ("import", "export") or not file or more:
        if action not in ("import", "export", ""):
            raise unknown("action", action, ("import", "export"))
        raise UserError("expected: import FILE --config=CONFIG [--workdir=DIR], or: export FILE --workdir=DIR")
    path, folder = pathlib.Path(file).expanduser(), pathlib.Path(_WORKDIR.value or f"runs/{pathlib.Path(file).stem}")
    if action == "export":
        if not _WORKDIR.value:
            raise UserError("--workdir is missing: the folder of the run whose weights are to be written")
        print(export_file(path, folder.expanduser()))
        return
    if _CONFIG.value is None:
        raise UserError("--config is missing; for example --config=configs/resnet_cifar10.py:resnet20")
    if not path.is_file():
        raise UserError(f"no file '{path}'")
    import_file(path, _CONFIG.value, folder.expanduser())
    print(f"{folder}: {_CONFIG.value.model.variant} at step 0")
    print(f"test it: python -m common.main --mode=evaluate --workdir={folder}")


def import_file(path: pathlib.Path, config: ConfigDict, folder: pathlib.Path) -> None:
    """Make in `folder` the run that `config` describes, at step 0, with the weights of a file.

    It is the run that training with `config.init.checkpoint` set to the file starts with. UserError for a file that
    does not fit the network, and for a folder with checkpoints in it.
    """
    import jax

    from common import config as config_lib
    from common import models, train
    from common.data import datasets, pixel_statistics
    from common.pretrained import initial
    from common.run import workdir
    from common.training.state import create_state

    config.init.checkpoint = str(path)
    config_lib.validate(config)
    if any(folder.glob("checkpoints/[0-9]*")):
        raise UserError(f"there is a run in {folder} already; choose another --workdir")
    data = config.data.copy_and_resolve_references()
    if not pixel_statistics.needs_statistics(config):
        data.memory = "stream"  # no image is looked at
    dataset = datasets.load(data)
    classifier = models.make_classifier(config.model, dataset.info)
    optimizer, _ = train.make_optimizer(config, len(dataset.train))
    state = jax.jit(functools.partial(create_state, classifier, optimizer, config))()
    state = initial.start(state, classifier, config)
    workdir.open_workdir(folder, config, dataset.info)
    pixel_statistics.for_run(config, folder, dataset.train)
    with train.open_checkpoints(config, folder, len(dataset.train)) as checkpoints:
        checkpoints.save(0, state, None)


def export_file(path: pathlib.Path, folder: pathlib.Path) -> str:
    """Write the weights of the run in `folder` to a file; returns what to say about it."""
    import jax
    import numpy as np

    from common.pretrained import initial, weight_files
    from common.run import trained

    weight_files.check_format(path)
    run = trained.load(folder)
    variables = jax.tree.map(np.asarray, run.variables)
    arrays, names = initial.published(run.config.model.family, variables, run.classifier.module)
    weight_files.write(path, arrays)
    return f"{path}: {len(arrays):,} arrays of {run.config.model.variant} at step {run.step:,}, under {names} names"


if __name__ == "__main__":
    launch.run(main)
