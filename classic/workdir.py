"""The folder of a classic run: its config, its dataset's facts, and the refusal to mix two runs in one."""

import pathlib

from ml_collections import ConfigDict

from classic import saved, stages
from common.data.dataset_info import Info, mismatch
from common.errors import UserError
from common.run import workdir
from common.run.workdir import StoredRun

# Options and sections that change no result, so that they may differ when a run goes on or is tested.
_NO_EFFECT = ("evaluate", "data.directory", "data.memory")


def stored_info(folder: pathlib.Path) -> Info | None:
    """The facts of the dataset of a run that has begun; None if no run has begun in the folder."""
    return workdir.load_info(folder) if _begun(folder) and (folder / workdir.DATASET).exists() else None


def stored_run(folder: pathlib.Path, config: ConfigDict, info: Info) -> StoredRun | None:
    """The run that a folder holds; None for a folder without a finished stage, which any run may use.

    Raises UserError for another experiment, for a network's run and for a dataset of other classes or another shape.
    """
    if workdir.has_checkpoints(folder):
        raise UserError(f"workdir {folder} holds a network's run; choose another --workdir")
    if not _begun(folder):
        return None
    before = StoredRun(load_config(folder), workdir.load_info(folder))
    check_same(folder, before.config, config)
    if wrong := mismatch(before.info, info):
        raise UserError(f"workdir {folder} holds another run: {wrong}; choose another --workdir")
    return before


def _begun(folder: pathlib.Path) -> bool:
    """True if a folder holds a finished stage, or a fitted pipeline whose stages were removed."""
    return stages.begun(folder) or saved.exists(folder)


def load_config(folder: pathlib.Path) -> ConfigDict:
    """The config a run was started with. Raises UserError for a folder without one."""
    path = folder / workdir.CONFIG
    if not path.exists():
        raise workdir.no_run(folder, path.name, "start one with python -m classic.main")
    return saved.as_config(workdir.read_json(path))


def check_same(folder: pathlib.Path, stored: ConfigDict, config: ConfigDict, evaluating: bool = False) -> None:
    """Raises UserError unless the folder's config `stored` is that of this experiment.

    evaluating: only the test data may differ; otherwise only the decoder, which is then fitted to the same features.
    """
    may_change = workdir.TEST_DATA if evaluating else ("decode",)
    workdir.refuse_changes(folder, stored, config, (*_NO_EFFECT, *may_change))
