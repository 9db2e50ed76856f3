"""Formulations of our own networks against each other: `python -m benchmarks.formulations --model=resnet:resnet50`.

Times an update as it is and with each of the candidates of `benchmarks.racing.candidates`; they take turns within one
run. Writes the ratios to results/benchmark_formulations*.json. A ratio above one means that the candidate is faster.
"""

import pathlib
from collections.abc import Mapping

from absl import flags

from benchmarks.measure import Measured, define_place, device_name, record, spread, whole_numbers
from benchmarks.racing import candidates, race
from benchmarks.racing.contestants import Spec, module_of
from benchmarks.racing.race import Entry, Racer
from common import launch
from common.errors import UserError, unknown


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_string("model", "", "the network, as FAMILY:VARIANT")
    flags.DEFINE_list("candidates", [], "formulations to try, of benchmarks/racing/candidates.py; default: all")
    flags.DEFINE_integer("batch_size", 16, "images in an update", lower_bound=2)
    flags.DEFINE_integer("image_size", 224, "side of the images, pixels", lower_bound=8)
    flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "precision of the computation")
    flags.DEFINE_list("per_call", ["1"], "updates in a compiled call; the candidates are timed with the first")
    flags.DEFINE_integer("rounds", 5, "measurements of each formulation", lower_bound=2)
    flags.DEFINE_float("seconds", 0.5, "least time that a measurement takes", lower_bound=0.0)
    define_place("out", "results", "folder of the results")


def main() -> None:
    """Times the candidates that the flags name."""
    if not flags.FLAGS.model:
        raise UserError("--model is empty; for example --model=resnet:resnet50_modern")
    names = flags.FLAGS.candidates or list(candidates.CANDIDATES)
    for name in names:
        if name not in candidates.CANDIDATES:
            raise unknown("candidate", name, candidates.CANDIDATES)
    specs = [_spec(count) for count in whole_numbers("per_call", flags.FLAGS.per_call)]
    module_of(specs[0])
    entries = {"as it is": Entry("ours", specs[0])}
    entries |= {name.replace("_", " "): Entry("ours", specs[0], name) for name in names}
    entries |= {f"{spec.per_call} updates in a call": Entry("ours", spec) for spec in specs[1:]}
    with race.started(entries) as racers:
        failed = {name: racer.failure for name, racer in racers.items() if racer.failure}
        if "as it is" in failed:
            raise UserError(failed["as it is"])
        running = {name: racer for name, racer in racers.items() if name not in failed}
        found = measured(running, flags.FLAGS.seconds, flags.FLAGS.rounds)
    spec = specs[0]
    file = f"benchmark_formulations_{spec.family}_{spec.variant}_{spec.dtype}_{device_name()}.json"
    record(pathlib.Path(flags.FLAGS.out) / file, f"formulations, {spec.name}", found, failed=failed)


def measured(racers: Mapping[str, Racer], seconds: float, rounds: int) -> Measured:
    """The speeds and memories of the racers over those of the racer 'as it is'.

    seconds: the least time of a measurement, which consists of whole calls.
    """
    counts = {name: race.enough_updates(racer, seconds) for name, racer in racers.items()}
    turns = race.take_turns(racers, counts, rounds)
    memory = {name: racer.peak_memory() for name, racer in racers.items()}
    found = {"as it is, milliseconds an update": spread([1e3 * turn["as it is"] for turn in turns])}
    for name in racers:
        if name != "as it is":
            found[f"speed with {name}"] = spread([turn["as it is"] / turn[name] for turn in turns])
            found[f"memory with {name}"] = spread([memory[name] / memory["as it is"]])
    return found


def _spec(per_call: int) -> Spec:
    family, _, variant = flags.FLAGS.model.partition(":")
    return Spec(family, variant, flags.FLAGS.batch_size, flags.FLAGS.image_size, flags.FLAGS.dtype, per_call)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
