"""A run's folder: its config, and the refusal to mix two runs in one."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import re
from typing import Any

from ml_collections import ConfigDict

from common.config import flat
from common.data.datasets import Info
from common.errors import UserError, writing

CONFIG, DATASET, SUMMARY = "config.json", "dataset.json", "summary.json"

# What may differ when a run goes on: how long, how often, on what, from where; never what is computed.
_MAY_CHANGE = (
    "train.length",
    "train.log_every",
    "train.steps_per_call",
    "data.directory",
    "data.memory",
    "data.workers",
    "evaluate",
    "checkpoint",
    "mesh",
    "profile",
)
# Of two experiments' differences, the one that says most is named.
_TELLING = ("model.family", "model.variant", "data.source")


def open_workdir(workdir: pathlib.Path, config: ConfigDict, info: Info, write: bool = True) -> None:
    """Create the folder and write the config and the dataset's facts, or check that it holds this experiment.

    A folder in which nothing has been saved yet, because its run was refused or stopped early, may become another's.
    Without `write`, for all but one of several processes, only check.
    """
    with writing(f"workdir {workdir}"):
        workdir.mkdir(parents=True, exist_ok=True)
        if (workdir / CONFIG).exists() and any(workdir.glob("checkpoints/[0-9]*")):
            check_same(workdir, config)
        if write:
            write_json(workdir / CONFIG, config.to_dict())
            write_json(workdir / DATASET, dataclasses.asdict(info))


def load_config(workdir: pathlib.Path) -> ConfigDict:
    """The config a run was started with."""
    return ConfigDict(_read_json(workdir, CONFIG))


def load_info(workdir: pathlib.Path) -> Info:
    """The facts of the dataset a run was trained on, so that using it needs no dataset."""
    facts = _read_json(workdir, DATASET)
    return Info(**{key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()})


def _read_json(workdir: pathlib.Path, name: str) -> dict[str, Any]:
    path = workdir / name
    if not path.exists():
        raise UserError(f"no run in {workdir}: {name} is missing; train one first with python -m common.main")
    return json.loads(path.read_text())


def check_same(workdir: pathlib.Path, config: ConfigDict) -> None:
    """UserError unless the folder's experiment is this one, but for what does not change what is computed."""
    ours, theirs = flat(config), flat(load_config(workdir))
    for key in sorted({*ours, *theirs}, key=lambda key: (key not in _TELLING, key)):
        if ours.get(key) != theirs.get(key) and not key.startswith(_MAY_CHANGE):
            raise UserError(
                f"workdir {workdir} holds another experiment: config.{key} is {theirs.get(key)!r} there and "
                f"{ours.get(key)!r} here; choose another --workdir, or remove that one"
            )


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_text(json.dumps(content, indent=2, default=str) + "\n")
    fresh.replace(path)


def environment() -> dict[str, Any]:
    """What a number was measured with: versions, devices and processor."""
    import jax

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "cpu": _processor(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def _processor() -> str:
    """The processor's model where the system names it, as Linux does on x86; its architecture elsewhere."""
    facts = pathlib.Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", facts.read_text(), re.MULTILINE) if facts.exists() else None
    return model[1] if model else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
