"""The checks before the runs of claims: that their datasets are there, and that existing runs were made for them."""

import functools
import pathlib
import runpy
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from common import config as config_lib
from common.claims.claim import Experiment
from common.command_line import config_files
from common.data import datasets
from common.errors import UserError
from common.run import summary, workdir

# Options that change no number of a run, or that name its place.
_MAY_DIFFER = (
    *("data.directory", "data.memory", "data.workers", "evaluate.batch_size", "checkpoint", "mesh", "profile"),
    *("tracker", "train.steps_per_call", "init.checkpoint", "seed"),
)


def make_config(experiment: Experiment, given: Mapping[str, Any]) -> ConfigDict:
    """An experiment's config. given: options of its `data` section that replace the experiment's."""
    path, _, argument = experiment.config.partition(":")
    config = _get_config(path)(argument) if argument else _get_config(path)()
    config.update_from_flattened_dict(dict(experiment.changes))
    config.data.update(given)
    return config


def check_run(folder: pathlib.Path, config: ConfigDict) -> None:
    """Raises UserError if a folder holds a run that was made, or begun, with another config.

    Options that only one of the two configs has are from another version, and are not compared.
    """
    if not (folder / workdir.CONFIG).exists() or not (summary.exists(folder) or workdir.has_checkpoints(folder)):
        return
    theirs = config_lib.flat(ConfigDict(workdir.read_json(folder / workdir.CONFIG)))
    for path, ours in config_lib.flat(config).items():
        if theirs.get(path, ours) != ours and not path.startswith(_MAY_DIFFER):
            raise UserError(
                f"{folder} holds another run: config.{path} is {theirs[path]!r} there and {ours!r} now; remove it, or "
                "choose another --runs"
            )


def check_data(sections: Iterable[ConfigDict]) -> None:
    """Raises one UserError for all datasets that cannot be opened; each is opened once."""
    wrong: dict[tuple[str, str], str] = {}
    for section in {(section.source, section.directory): section for section in sections}.values():
        try:
            datasets.open_dataset(section)
        except UserError as error:
            wrong[section.source, section.directory] = str(error)
    if wrong:
        raise UserError("; ".join(wrong.values()))


@functools.cache
def _get_config(path: str) -> Any:
    """The function `get_config` of a config file."""
    return runpy.run_path(str(config_files.find(path)))["get_config"]
