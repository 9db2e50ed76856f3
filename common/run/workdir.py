"""A run's folder: its config, its dataset's facts, and the checks that keep two runs from mixing in one folder."""

import dataclasses
import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from common import config as config_lib
from common.data.dataset_info import Info, mismatch
from common.devices import host
from common.errors import UserError, nearest
from common.files import user_path, whole_file, writing
from common.processes import distributed

SCHEDULE_NUMBERS = (
    *("learning_rate", "warmup", "warmup_from", "boundaries", "rates", "final", "power", "timescale"),
    *("factor", "patience", "min_scale"),
)
CONFIG, DATASET, SUMMARY = "config.json", "dataset.json", "summary.json"

# Options, and sections of them, that change no update; see `changes_no_result` for the exception.
_CHANGE_NO_UPDATE = (
    "train.log_every",
    "train.steps_per_call",
    "data.directory",
    "data.memory",
    "data.workers",
    "evaluate",
    "checkpoint",
    "mesh",
    "profile",
    "tracker",
)
# Options that may differ when a run goes on (docs/resume.md); those up to the schedule's are printed and recorded.
_MAY_CHANGE = ("train.length", "train.patience", *(f"schedule.{name}" for name in SCHEDULE_NUMBERS), *_CHANGE_NO_UPDATE)
# Options that may differ between the processes of a run: the place of the images, and the threads that read them.
_OF_ONE_PROCESS = ("data.source", "data.directory", "data.workers")
# Options that choose other test data.
TEST_DATA = ("data.source", "data.train_split", "data.test_split", "data.validation", "data.skip_bad", "data.holdout")
_TEST_IMAGES = tuple(path.removeprefix("data.") for path in (*TEST_DATA, "data.directory"))
# The most telling differences between two experiments; they are named first.
_TELLING = ("model.family", "model.variant", "data.source")


def test_data(section: ConfigDict) -> dict[str, str]:
    """The options of a `data` section that choose the test images, and the folder of prepared datasets, as text."""
    return {name: str(section[name]) for name in _TEST_IMAGES}


def changes_no_result(path: str, config: ConfigDict) -> bool:
    """True for an option that the run does not read, or that leaves all updates and the choice of the checkpoint alone.

    `evaluate.every` is not one if evaluations set the learning rate, end the run or select the checkpoint.
    """
    if not _is_network(config):
        unread = [f"data.{name}" for name in config_lib.UNREAD_BY_PIPELINES]
        return path in unread or path.startswith(_CHANGE_NO_UPDATE)
    if path == "evaluate.every":
        return not (config.schedule.name == "plateau" or config.train.patience or config.data.validation)
    return path.startswith(_CHANGE_NO_UPDATE)


class StoredRun(NamedTuple):
    """The config and the dataset's facts that a folder held before a run goes on in it."""

    config: ConfigDict
    info: Info


def has_checkpoints(folder: pathlib.Path) -> bool:
    """True for the folder of a network's run that has begun. Does not import Orbax, which is slow."""
    return any(path.name.isdecimal() for path in folder.glob("checkpoints/*"))  # others are saves that a kill cut short


def stored_info(workdir: pathlib.Path) -> Info | None:
    """The facts of the dataset of a run with checkpoints; None for a folder without a run."""
    if has_checkpoints(workdir) and (workdir / DATASET).exists():
        return load_info(workdir)
    return None


def open_workdir(workdir: pathlib.Path, config: ConfigDict, info: Info, write: bool = True) -> StoredRun | None:
    """Creates the folder of a new run and writes its facts, or checks that the folder holds this experiment.

    Returns what the folder held, None for a new run. A folder without checkpoints, whose run was refused or stopped
    early, may become another run's. With `write` False, as in all but one of several processes, it only checks.
    `history.start` writes the facts of a run that goes on. Raises UserError, and writes nothing, for another experiment
    or kind of run, for a dataset of other classes or another shape, for checkpoints without a config, which could be
    any experiment's, and for a finished run without checkpoints, whose results would be overwritten.
    """
    before = None
    with writing(f"workdir {workdir}"):
        workdir.mkdir(parents=True, exist_ok=True)
        if has_checkpoints(workdir):
            if not (workdir / CONFIG).exists():
                raise UserError(
                    f"workdir {workdir} holds checkpoints but no {CONFIG}, so their experiment is unknown; choose "
                    "another --workdir, or remove that one"
                )
            before = StoredRun(check_same(workdir, config), load_info(workdir))
            if wrong := mismatch(before.info, info):
                raise UserError(f"workdir {workdir} holds another run: {wrong}; choose another --workdir")
        elif (workdir / CONFIG).exists() and not _is_network(_read_json(workdir, CONFIG)):
            raise UserError(f"workdir {workdir} holds a run that is not a network's; choose another --workdir")
        elif (workdir / SUMMARY).exists():
            raise UserError(
                f"workdir {workdir} holds the results of a finished run whose checkpoints are gone; choose another "
                "--workdir, or remove that one"
            )
        if write and before is None:
            write_facts(workdir, config, info)
    return before


def write_facts(workdir: pathlib.Path, config: ConfigDict, info: Info) -> None:
    """Writes the config of a run and the facts of its dataset. Raises UserError where writing fails."""
    write_json(workdir / CONFIG, config.to_dict())
    write_json(workdir / DATASET, dataclasses.asdict(info))


def check_agreement(config: ConfigDict, info: Info) -> None:
    """Raises UserError if the processes of a run have other options or another dataset: each would compute its own."""
    ours = {f"config.{path}": value for path, value in config_lib.flat(config).items() if path not in _OF_ONE_PROCESS}
    ours |= {f"a dataset with {name}": value for name, value in dataclasses.asdict(info).items() if name != "name"}
    first, *others = map(json.loads, distributed.gathered("experiment", json.dumps(ours), config.mesh.start_timeout))
    for number, other in enumerate(others, start=1):
        for name in sorted(first | other):
            if first.get(name) != other.get(name):
                raise UserError(
                    f"process {number} has {name} {other.get(name)!r}, process 0 has {first.get(name)!r}; give all "
                    "processes the same command and the same data"
                )


def check_readable(config: ConfigDict, bad: Collection[str]) -> None:
    """Raises UserError if one process of a run cannot read an image that another can: they would see different sets.

    bad: the messages about the unreadable images of this process, each of which begins with the image's name in quotes.
    """
    root = str(user_path(config.data.source.partition(":")[2]).absolute())  # it may differ between processes
    ours = sorted({message.partition("' ")[0].replace(root, "").strip("'") for message in bad})
    texts = distributed.gathered("unreadable images", json.dumps(ours), config.mesh.start_timeout)
    first, *others = (set(json.loads(text)) for text in texts)
    for number, other in enumerate(others, start=1):
        for name in sorted(first ^ other):
            cannot, can = (number, 0) if name in other else (0, number)
            raise UserError(
                f"process {cannot} cannot read '{name}', process {can} can; with config.data.skip_bad, too, all "
                "processes need the same images"
            )


def _is_network(stored: Mapping[str, Any] | ConfigDict) -> bool:
    """True for the config of a network, which has a section on its model."""
    return "model" in stored


def load_config(workdir: pathlib.Path) -> ConfigDict:
    """The config a run was started with, with the options of this version."""
    stored = ConfigDict(_read_json(workdir, CONFIG))
    if "data" in stored and not _is_network(stored):
        raise UserError(f"workdir {workdir} holds a run that is not a network's; open it with the tools that made it")
    try:
        return config_lib.upgraded(stored)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{workdir / CONFIG} is damaged: it is not the config of a run ({error})") from error


def load_info(workdir: pathlib.Path) -> Info:
    """The facts of the dataset that a run was trained on, so that the run can be used without it."""
    facts: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in _read_json(workdir, DATASET).items()
    }
    try:
        return Info(**facts)
    except TypeError as error:
        raise UserError(f"{workdir / DATASET} is damaged: it does not hold the facts of a dataset ({error})") from error


def _read_json(workdir: pathlib.Path, name: str) -> dict[str, Any]:
    path = workdir / name
    if not path.exists():
        raise no_run(workdir, name, "train one first with python -m common.main")
    return read_json(path)


def check_distinct(folders: Sequence[pathlib.Path]) -> None:
    """Raises UserError for a folder that is given twice, even under another name."""
    for number, folder in enumerate(folders):
        if any(folder.resolve() == other.resolve() for other in folders[:number]):
            raise UserError(f"the run in {folder} is given twice")


def no_run(folder: pathlib.Path, missing: str, advice: str = "") -> UserError:
    """The error for a folder without a run, with the run that may be meant. missing: the file that is not there."""
    if not folder.is_dir():
        said, close = "there is no such folder", nearest(folder.name, _runs_in(folder.parent))
        if folder.exists():
            said, close = "it is a file", "" if (folder.parent / CONFIG).exists() else None
        hint = advice if close is None else f"did you mean '{folder.parent / close}'?"
    else:
        said, inside = f"{missing} is missing", _runs_in(folder)
        hint = f"it has runs inside, as '{folder / inside[0]}'" if inside else advice
    return UserError("; ".join(filter(None, (f"no run in {folder}: {said}", hint))))


def _runs_in(folder: pathlib.Path) -> list[str]:
    """The names of the runs in a folder."""
    try:
        return sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    except OSError:
        return []


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UserError if it cannot be read or holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} is damaged: {reason}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it does not hold a JSON object")
    return content


def check_same(workdir: pathlib.Path, config: ConfigDict, evaluating: bool = False) -> ConfigDict:
    """The folder's own config. Raises UserError unless its experiment is this one, apart from options that may change.

    evaluating: options that choose other test data may change, too.
    """
    stored = load_config(workdir)
    refuse_changes(workdir, stored, config, (*_MAY_CHANGE, *TEST_DATA) if evaluating else _MAY_CHANGE)
    return stored


def refuse_changes(workdir: pathlib.Path, stored: ConfigDict, config: ConfigDict, may_change: tuple[str, ...]) -> None:
    """Raises UserError for an option in which a run's own config differs from this one, unless it may change.

    may_change: beginnings of such options' paths.
    """
    different = config_lib.differences(stored, config)
    for key in sorted(different, key=lambda key: (key not in _TELLING, key)):
        if not key.startswith(may_change):
            theirs, ours = different[key]
            raise UserError(
                f"workdir {workdir} holds another experiment: config.{key} is {theirs!r} there and {ours!r} here; "
                "choose another --workdir, or remove that one"
            )


def write_json(path: pathlib.Path, content: dict[str, Any], compact: Collection[str] = ()) -> None:
    """Writes a JSON file, whole or not at all; `compact`: keys whose values are written on one line each."""
    lines = []
    for key, value in content.items():
        text = json.dumps(value, indent=None if key in compact else 2, default=str)
        lines.append(f"  {json.dumps(key)}: " + text.replace("\n", "\n  "))
    with whole_file(path) as fresh:
        fresh.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def environment() -> dict[str, Any]:
    """The versions, devices and processor that a number was measured with."""
    import jax

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "cpu": host.processor(host.processor_facts()),
        "cpu_cores": host.cores(),
    }


def version(package: str) -> str:
    """The installed version of a package, or 'absent'."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
