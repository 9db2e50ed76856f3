"""Training speed of networks: `python -m benchmarks.throughput --models=resnet:resnet50,vit:s16 [--peers=torch,timm]`.

Times updates (forward, backward, momentum) on a batch that is already on the device: ours, and the same network's in
PyTorch. Each has its own process, and they take turns within one run. A chain of matrix products takes turns with them,
so that the share of the machine's rate that a network reaches is measured in the same minutes. Writes medians and
spreads to results/benchmark_throughput*.json, each when its network has been timed; `python -m common.tables` makes the
table.
"""

import pathlib

from absl import flags

from benchmarks import race
from benchmarks.contestants import TIMM, Spec, module_of
from benchmarks.measure import Measured, device_name, record, spread
from benchmarks.race import Entry, Racer
from common import launch
from common.errors import UserError, unknown

LIBRARIES = ("torch", "timm")


def _define_flags() -> None:
    """Defines this tool's flags, unless it is imported by another tool, which has its own."""
    flags.DEFINE_list("models", [], "networks to time, as FAMILY:VARIANT")
    flags.DEFINE_list("peers", [], "libraries to race against: torch, timm")
    flags.DEFINE_integer("batch_size", 16, "images in an update", lower_bound=2)
    flags.DEFINE_integer("image_size", 224, "side of the images, pixels", lower_bound=8)
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "precision of the computation")
    flags.DEFINE_integer("per_call", 1, "our updates in a compiled call: train.steps_per_call", lower_bound=1)
    flags.DEFINE_integer("together", 1, "networks that are built at once and share memory", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "measurements of each contestant", lower_bound=2)
    flags.DEFINE_float("seconds", 0.5, "least time that a measurement of ours takes", lower_bound=0.0)
    flags.DEFINE_string("out", "results", "folder of the results")


def main() -> None:
    """Times every network that the flags name."""
    if not flags.FLAGS.models:
        raise UserError("--models is empty; for example --models=resnet:resnet50,vit:s16")
    for peer in flags.FLAGS.peers:
        if peer not in LIBRARIES:
            raise unknown("library", peer, LIBRARIES)
    specs = [_spec(name) for name in flags.FLAGS.models]
    for spec in specs:
        module_of(spec)  # refuses what does not exist before anything is timed
    for start in range(0, len(specs), flags.FLAGS.together):
        _races(specs[start : start + flags.FLAGS.together])


def _spec(name: str) -> Spec:
    family, _, variant = name.partition(":")
    given = flags.FLAGS
    return Spec(family, variant, given.batch_size, given.image_size, given.dtype, given.per_call)


def _races(specs: list[Spec]) -> None:
    """Builds all contestants of these networks side by side, then times one network after the other."""
    entries = {(spec, name): Entry(name, spec) for spec in specs for name in _names(spec)}
    with race.started({f"{spec.name}: {name}": entry for (spec, name), entry in entries.items()}) as racers:
        for spec in specs:
            _record(spec, measured(spec, {name: racers[f"{spec.name}: {name}"] for name in _names(spec)}))


def _names(spec: Spec) -> list[str]:
    peers = [peer for peer in flags.FLAGS.peers if peer != "timm" or spec.variant in TIMM]
    return ["ours", *peers, "products"]


def measured(spec: Spec, racers: dict[str, Racer]) -> Measured:
    """The results for a network by name, with median, lowest and highest: images/s, ratios, shares, GB, seconds."""
    for racer in racers.values():
        if racer.failure:
            raise UserError(racer.failure)
    count = race.enough_updates(racers["ours"], flags.FLAGS.seconds)
    rounds = race.take_turns(racers, count, flags.FLAGS.rounds)
    memory = {name: racer.peak_memory() for name, racer in racers.items()}
    images = count * spec.batch_size
    found = {"ours, images/s": spread([images / seconds["ours"] for seconds in rounds])}
    for peer in racers.keys() - {"ours", "products"}:
        found[f"{peer}, images/s"] = spread([images / seconds[peer] for seconds in rounds])
        found[f"ours over {peer}"] = spread([seconds[peer] / seconds["ours"] for seconds in rounds])
        found[f"{peer}, peak memory, GB"] = spread([memory[peer] / 1e9])
        found[f"{peer}, first update with compilation, s"] = spread([racers[peer].build or 0.0])
    found |= race.shares(spec, count, rounds)
    found["ours, peak memory, GB"] = spread([memory["ours"] / 1e9])
    found["ours, first update with compilation, s"] = spread([racers["ours"].build or 0.0])
    return found


def _record(spec: Spec, found: Measured) -> None:
    options = [f"--models={spec.family}:{spec.variant}", f"--peers={','.join(flags.FLAGS.peers)}"]
    options += [f"--batch_size={spec.batch_size}", f"--image_size={spec.image_size}", f"--dtype={spec.dtype}"]
    options += [f"--per_call={spec.per_call}"] if spec.per_call > 1 else []
    file = f"benchmark_throughput_{spec.family}_{spec.variant}_{spec.dtype}_{device_name()}.json"
    command = " ".join(["python -m benchmarks.throughput", *options])
    record(pathlib.Path(flags.FLAGS.out) / file, f"throughput, {spec.name}", found, command)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
