"""The check before the runs of claims: that their datasets are here."""

import functools
import runpy
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from common.claims.claim import Experiment
from common.data import datasets
from common.errors import UserError


def data_section(experiment: Experiment, given: Mapping[str, Any]) -> ConfigDict:
    """The `data` section of an experiment's config. given: options that replace the experiment's."""
    path, _, argument = experiment.config.partition(":")
    config = _get_config(path)(argument) if argument else _get_config(path)()
    config.update_from_flattened_dict(dict(experiment.changes))
    config.data.update(given)
    return config.data


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
    return runpy.run_path(path)["get_config"]
