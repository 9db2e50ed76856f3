"""Training speed of networks: `python -m benchmarks.throughput [--models=resnet:resnet50,vit:s16] [--peers=torch]`.

Times updates (forward, backward, momentum, weight decay) on a batch that is already on the device: ours, and the same
network's in PyTorch, eager (`torch`), compiled (`torch.compile`) and, on a GPU, compiled with CUDA graphs
(`torch.graphs`). Each has its own process, and they take turns within one run. A chain of matrix products takes turns
with them, so that the share of the machine's rate that a network reaches is measured in the same minutes. Without
--models it times every network of `networks.RACED`, each at its own size.

Writes medians and spreads to results/benchmark_throughput*.json, one file after each network. The same command goes on
where it stopped: it skips a network whose file has this command, machine, versions and code, unless --again is given.
`python -m common.tables` makes the table.
"""

import dataclasses
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

from benchmarks import networks
from benchmarks.measure import Measured, define_place, device_name, record, spread
from benchmarks.racing import peers, race
from benchmarks.racing.contestants import TIMM, Spec, module_of
from benchmarks.racing.race import Entry, Racer
from common import launch
from common.claims import speeds
from common.devices import host
from common.errors import UserError
from common.files import ROOT

# Each library's package, and the extra of setup.py that installs it.
_TORCH = ("torch", "parity")
LIBRARIES = {"torch": _TORCH, "torch.compile": _TORCH, "torch.graphs": _TORCH, "timm": ("timm", "peers")}
# The code that a network's speed depends on, besides its own.
_SHARED_CODE = ("benchmarks/racing/contestants.py", "benchmarks/racing/torch_networks.py")
_SHARED_CODE += ("common/devices", "common/nn", "common/training")


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_list("models", [], "networks to time, as FAMILY:VARIANT; default: all of networks.RACED")
    flags.DEFINE_list("peers", [], "libraries to race against: torch, torch.compile, torch.graphs, timm")
    flags.DEFINE_integer("batch_size", None, "images in an update; default: the network's own", lower_bound=2)
    flags.DEFINE_integer("image_size", None, "side of the images, pixels; default: the network's own", lower_bound=8)
    flags.DEFINE_integer("classes", None, "classes of the labels; default: the network's own", lower_bound=2)
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "precision of the computation")
    flags.DEFINE_integer("per_call", 1, "our updates in a compiled call: train.steps_per_call", lower_bound=1)
    flags.DEFINE_integer("together", 1, "networks that are built at once and share memory", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "measurements of each contestant", lower_bound=2)
    flags.DEFINE_float("seconds", 1.0, "time that a measurement takes at least", lower_bound=0.0)
    flags.DEFINE_enum("scale", "full", ["smoke", "full"], "smoke: two small images in an update, to test the command")
    flags.DEFINE_bool("again", False, "time networks again whose results are there")
    define_place("out", "results", "folder of the results")


def main() -> None:
    """Times every network that the flags name, and prints which are left.

    Raises UserError at the end if a network has failed.
    """
    import jax

    given = flags.FLAGS
    race.share_device()
    peers.check(given.peers, LIBRARIES)
    check_device(given.peers)
    _check_compiler(given.peers)
    if given.together > 1 and jax.default_backend() == "cpu":
        raise UserError("--together is for accelerators; on a CPU each contestant is built alone, which is timed")
    specs = [_spec(name) for name in given.models or networks.RACED]
    for spec in specs:
        module_of(spec)  # refuses what does not exist before anything is timed
    if "timm" in given.peers and (missing := missing_in_timm(specs)):
        print(f"timm has none of these, which are timed without it: {', '.join(missing)}")
    left = [spec for spec in specs if given.again or not _is_there(spec)]
    print(f"{len(specs) - len(left)} of {len(specs)} networks are there; left: {_names(left) or 'none'}", flush=True)
    failures: list[str] = []
    for start in range(0, len(left), given.together):
        started = time.monotonic()
        failures += _races(left[start : start + given.together])
        rest = left[start + given.together :]
        print(f"  after {time.monotonic() - started:.0f} s; left: {_names(rest) or 'none'}", flush=True)
    if failures:
        raise UserError(f"not timed, and the same command tries again: {'; '.join(failures)}")


def check_device(libraries: Sequence[str]) -> None:
    """Raises UserError if PyTorch would compute on a CPU and JAX on a GPU, or should record graphs without a GPU."""
    import jax

    if "torch.graphs" in libraries and jax.default_backend() != "gpu":
        raise UserError("--peers has torch.graphs, which needs an NVIDIA GPU; without one, torch.compile is the same")
    if libraries and jax.default_backend() == "gpu":
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                f"JAX computes on a GPU, and PyTorch {torch.__version__} finds none: install its build for CUDA, or "
                "leave --peers out"
            )


def missing_in_timm(specs: Sequence[Spec]) -> list[str]:
    """The networks that timm does not have, as FAMILY:VARIANT."""
    return [_name(spec) for spec in specs if spec.variant not in TIMM]


def _check_compiler(libraries: Sequence[str]) -> None:
    """Raises UserError if PyTorch should compile a network, but there is no compiler."""
    compilers = filter(None, (os.environ.get("CXX"), "g++", "clang++"))
    compiled = [name for name in libraries if name in ("torch.compile", "torch.graphs")]
    if compiled and not any(map(shutil.which, compilers)):
        raise UserError(f"--peers has {compiled[0]}, which needs a C++ compiler: install g++, or leave it out")


def _spec(name: str) -> Spec:
    family, _, variant = name.partition(":")
    given, own = flags.FLAGS, networks.size_of(family, variant)
    if given.scale == "smoke":
        own = dataclasses.replace(own, batch=2, side=own.smallest)
    return Spec(
        family,
        variant,
        given.batch_size or own.batch,
        given.image_size or own.side,
        given.dtype,
        given.per_call,
        given.classes or own.classes,
    )


def _names(specs: Sequence[Spec]) -> str:
    return ", ".join(map(_name, specs))


def _name(spec: Spec) -> str:
    return f"{spec.family}:{spec.variant}"


def _races(specs: list[Spec]) -> list[str]:
    """Builds all contestants of these networks, then times one network after the other; returns the failures."""
    failures = []
    entries = {(spec, name): Entry(name, spec) for spec in specs for name in _contestants(spec)}
    named = {f"{spec.name}: {name}": entry for (spec, name), entry in entries.items()}
    with race.started(named, side_by_side=len(specs) > 1) as racers:
        for spec in specs:
            try:
                found = measured(spec, {name: racers[f"{spec.name}: {name}"] for name in _contestants(spec)})
            except UserError as error:
                failures.append(f"{_name(spec)} ({error})")
                print(f"{spec.name}: {error}", flush=True)
            else:
                record(_path(spec), f"throughput, {spec.name}", found, _command(spec), **_facts(spec))
    return failures


def _contestants(spec: Spec) -> list[str]:
    able = [peer for peer in flags.FLAGS.peers if peer != "timm" or not missing_in_timm([spec])]
    return ["ours", *able, "products"]


def measured(spec: Spec, racers: dict[str, Racer]) -> Measured:
    """The median, lowest and highest of each result for a network: images/s, ratios, shares, GB, seconds."""
    for racer in racers.values():
        if racer.failure:
            raise UserError(racer.failure)
    counts = {name: race.enough_updates(racer, flags.FLAGS.seconds) for name, racer in racers.items()}
    rounds = race.take_turns(racers, counts, flags.FLAGS.rounds)
    memory = {name: racer.peak_memory() for name, racer in racers.items()}
    sides = [name for name in racers if name != "products"]
    found = {f"{side}, images/s": spread([spec.batch_size / seconds[side] for seconds in rounds]) for side in sides}
    for peer in sides[1:]:
        found[f"ours over {peer}"] = spread([seconds[peer] / seconds["ours"] for seconds in rounds])
    found |= race.shares(spec, rounds)
    found |= {f"{side}, peak memory, GB": spread([memory[side] / 1e9]) for side in sides}
    for side in sides:
        if (seconds := racers[side].first_update) is not None:
            found[f"{side}, first update with compilation, s"] = spread([seconds])
    return found


def _path(spec: Spec) -> pathlib.Path:
    smoke = "smoke_" if flags.FLAGS.scale == "smoke" else ""
    name = f"benchmark_throughput_{smoke}{spec.family}_{spec.variant}_{spec.dtype}_{device_name()}.json"
    return pathlib.Path(flags.FLAGS.out) / name


def _command(spec: Spec) -> str:
    options = [f"--models={_name(spec)}", f"--peers={','.join(flags.FLAGS.peers)}"]
    options += [f"--batch_size={spec.batch_size}", f"--image_size={spec.image_size}", f"--classes={spec.classes}"]
    options += [f"--dtype={spec.dtype}", *([f"--per_call={spec.per_call}"] if spec.per_call > 1 else [])]
    return " ".join(["python -m benchmarks.throughput", *options])


def _facts(spec: Spec) -> dict[str, Any]:
    """The network, the machine, the peers' versions, and the code that a result depends on."""
    code = sorted([*_SHARED_CODE, *_modules(spec.family)])
    return {
        "race": {**dataclasses.asdict(spec), "scale": flags.FLAGS.scale, "rounds": flags.FLAGS.rounds},
        "machine": {"memory_gb": round(host.memory() / 1e9, 1), "threads": host.cores()},
        "peers": peers.versions(sorted({LIBRARIES[peer][0] for peer in flags.FLAGS.peers})),
        "code": {"paths": code, "digest": speeds.code_digest(ROOT, code)},
    }


def _modules(family: str) -> list[str]:
    """The files of a family's modules that its network is made of, from the root of the repository."""
    files = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == family]
    return [str(pathlib.Path(file).relative_to(ROOT)) for file in files if file]


def _is_there(spec: Spec) -> bool:
    """True if the file of a network has a result of this command, machine, versions and code."""
    from common.run import workdir  # slow imports

    path = _path(spec)
    if not path.exists():
        return False
    old, facts = workdir.read_json(path), _facts(spec)
    same = old.get("command") == _command(spec) and old.get("environment") == workdir.environment()
    return same and old.get("peers") == facts["peers"] and not speeds.is_outdated(old, ROOT)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
