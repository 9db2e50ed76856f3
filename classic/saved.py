"""A fitted pipeline in two files: `pipeline.npz` has its arrays, `pipeline.json` says what they are.

Neither can hold code: a pipeline from elsewhere is safe to open. A file that holds anything else is refused.
"""

import dataclasses
import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from classic import config as config_lib
from classic import stages
from classic.pipeline import Pipeline
from common import config as common_config
from common.data.dataset_info import Info
from common.errors import UserError
from common.run import workdir

ARRAYS, DESCRIPTION = "pipeline.npz", "pipeline.json"
_FORMAT = "lineage classic pipeline 1"


def exists(folder: pathlib.Path) -> bool:
    """True if a folder holds a fitted pipeline."""
    return (folder / DESCRIPTION).exists()


def save(folder: pathlib.Path, pipeline: Pipeline) -> None:
    """Writes a pipeline's two files."""
    (folder / DESCRIPTION).unlink(missing_ok=True)  # so that a kill leaves no description beside other arrays
    arrays = {f"{part}/{name}": array for part, found in pipeline.arrays.items() for name, array in found.items()}
    stages.write_arrays(folder / ARRAYS, arrays)
    content = {
        "format": _FORMAT,
        "config": pipeline.config.to_dict(),
        "dataset": dataclasses.asdict(pipeline.info),
        "arrays": {name: {"dtype": str(array.dtype), "shape": array.shape} for name, array in arrays.items()},
    }
    workdir.write_json(folder / DESCRIPTION, content)


def update_config(folder: pathlib.Path, config: ConfigDict) -> None:
    """Gives a saved pipeline another config of the same experiment, such as one with another folder of the data."""
    path = folder / DESCRIPTION
    workdir.write_json(path, {**workdir.read_json(path), "config": config.to_dict()})


def load(folder: pathlib.Path) -> Pipeline:
    """The pipeline in a folder. Raises UserError if there is none, or files that are damaged or hold Python objects."""
    if not exists(folder):
        if (folder / "checkpoints").is_dir():
            raise UserError(f"{folder} holds a network's run; open it with the commands of common, not of classic")
        advice = "fit one first with python -m classic.main"
        if not folder.is_dir():
            raise workdir.no_run(folder, DESCRIPTION, advice)
        raise UserError(f"no fitted pipeline in {folder}: {DESCRIPTION} is missing; {advice}")
    path = folder / DESCRIPTION
    content = workdir.read_json(path)
    if content.get("format") != _FORMAT:
        raise UserError(f"{path} is refused: its format is '{content.get('format')}'; expected '{_FORMAT}'")
    try:
        info = Info(**{name: _as_tuple(value) for name, value in content["dataset"].items()})
        declared = {name: (facts["dtype"], tuple(facts["shape"])) for name, facts in content["arrays"].items()}
        stored = content["config"]
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: it does not describe a pipeline ({error})") from error
    arrays = stages.read_arrays(folder / ARRAYS)
    if declared != {name: (str(array.dtype), array.shape) for name, array in arrays.items()}:
        raise UserError(f"{folder / ARRAYS} is refused: its arrays are not those that {DESCRIPTION} describes")
    parts: dict[str, stages.Arrays] = {"encode": {}, "decode": {}}
    for name, array in arrays.items():
        part, _, own = name.partition("/")
        parts.setdefault(part, {})[own] = array
    return Pipeline(as_config(stored), info, parts)


def as_config(stored: dict[str, Any]) -> ConfigDict:
    """The config that a JSON file holds: lists are tuples again. Raises UserError if no pipeline has such a config."""
    content = json.loads(json.dumps(stored), object_hook=_with_tuples)
    if isinstance(content.get("data"), dict):  # options that are newer than the file have their defaults
        content["data"] = {**common_config.base(ConfigDict()).data.to_dict(), **content["data"]}
    config = ConfigDict(content).lock()
    config_lib.validate(config)
    return config


def _with_tuples(section: dict[str, Any]) -> dict[str, Any]:
    return {name: _as_tuple(value) for name, value in section.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
