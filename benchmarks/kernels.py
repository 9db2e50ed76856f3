"""The time of each kind of kernel in an update: `python -m benchmarks.kernels --model=resnet:resnet50_modern`.

Traces three updates on a batch that is on the device, and adds up the device's time by kind of kernel. Writes
results/benchmark_kernels*.json. --traces=DIR keeps the trace for TensorBoard or Perfetto.
"""

import collections
import gzip
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from absl import flags

from benchmarks.measure import define_place, device_name, record, spread
from benchmarks.racing.contestants import CONTESTANTS, Spec, module_of
from common import launch
from common.errors import UserError

UPDATES = 3
LISTED = 12  # kernels with names in the result

# The words of each kind. A kernel is of the first kind with a word in the kernel's name or in that of its operation.
KINDS = {
    "convolutions: gradients of weights": ("bw-filter", "wgrad"),
    "convolutions: gradients of inputs": ("bw-input", "dgrad"),
    "attention": ("fmha", "attention", "flash"),
    "convolutions": ("conv",),
    "matrix products": ("gemm", "dot", "nvjet", "cublas", "xmma"),
    "max pooling": ("scatter", "reduce_window", "select_and_scatter"),
    "sums and means": ("reduce",),
    "copies and layouts": ("memcpy", "memset", "copy", "transpose"),
}
REST = "element by element"

Event = Mapping[str, Any]


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_string("model", "", "the network, as FAMILY:VARIANT")
    flags.DEFINE_integer("batch_size", 16, "images in an update", lower_bound=2)
    flags.DEFINE_integer("image_size", 224, "side of the images, pixels", lower_bound=8)
    flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "precision of the computation")
    flags.DEFINE_integer("per_call", 1, "updates in a compiled call", lower_bound=1)
    define_place("out", "results", "folder of the results")
    define_place("traces", "", "folder that the trace is kept in; default: it is not kept")


def main() -> None:
    """Traces the network that the flags name and writes the result."""
    if not flags.FLAGS.model:
        raise UserError("--model is empty; for example --model=resnet:resnet50_modern")
    import jax

    family, _, variant = flags.FLAGS.model.partition(":")
    given = flags.FLAGS
    spec = Spec(family, variant, given.batch_size, given.image_size, given.dtype, given.per_call)
    module_of(spec)
    updates, _ = CONTESTANTS["ours"](spec)
    updates(spec.per_call)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            updates(UPDATES * spec.per_call)
        trace = next(pathlib.Path(folder).rglob("*.trace.json.gz"))
        events = device_events(json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"])
        name = f"{spec.family}_{spec.variant}_{spec.dtype}_{device_name()}"
        if flags.FLAGS.traces:
            pathlib.Path(flags.FLAGS.traces).mkdir(parents=True, exist_ok=True)
            shutil.copy(trace, pathlib.Path(flags.FLAGS.traces) / f"{name}.trace.json.gz")
    count = UPDATES * spec.per_call
    found = {f"{kind}, ms an update": spread([1e-3 * time / count]) for kind, time in by_kind(events).items()}
    found |= {f"kernel {text}, ms an update": spread([1e-3 * time / count]) for text, time in longest(events)}
    found["kernels in an update"] = spread([len(events) / count])
    record(pathlib.Path(flags.FLAGS.out) / f"benchmark_kernels_{name}.json", f"kernels, {spec.name}", found)


def device_events(events: Iterable[Event]) -> list[Event]:
    """The events of a trace that are an accelerator's work; without one, the operations of compiled programs on CPU.

    If there are several accelerators, which all do the same, the work is that of the first.
    """
    events = list(events)
    processes, threads = _names(events, "process_name"), _names(events, "thread_name")
    timed = [event for event in events if event.get("ph") == "X" and event.get("dur")]
    devices = sorted((name, pid) for (pid, _), name in processes.items() if name.startswith(_DEVICES))
    if devices:
        first = devices[0][1]
        here = [event for event in timed if event["pid"] == first]
        # A TPU's other threads have the same time again, as that of whole programs and steps.
        operations = [event for event in here if threads.get((first, event.get("tid"))) == "XLA Ops"]
        return [event for event in operations if not event["name"].startswith(_LOOPS)] or here
    operations = [event for event in timed if "hlo_op" in event.get("args", {})]
    return [event for event in operations if not event["args"]["hlo_op"].startswith(_LOOPS)]


_DEVICES = ("/device:GPU:", "/device:TPU:")
_LOOPS = ("while", "call", "conditional")  # on CPUs and TPUs a loop is an event beside those of what it repeats


def _names(events: Iterable[Event], kind: str) -> dict[tuple[int, int | None], str]:
    """The names of a trace's processes or threads by the numbers of both."""
    named = [event for event in events if event.get("ph") == "M" and event.get("name") == kind]
    return {(event["pid"], event.get("tid")): event["args"]["name"] for event in named}


def kind_of(event: Event) -> str:
    """The kind of a kernel by its name and by the operation it belongs to."""
    text = f"{event['name']} {event.get('args', {}).get('hlo_op', '')}".lower()
    return next((kind for kind, words in KINDS.items() if any(word in text for word in words)), REST)


def by_kind(events: Iterable[Event]) -> dict[str, float]:
    """Microseconds of each kind of kernel, the longest first."""
    sums: collections.Counter[str] = collections.Counter()
    for event in events:
        sums[kind_of(event)] += event["dur"]
    return dict(sums.most_common())


def longest(events: Iterable[Event]) -> list[tuple[str, float]]:
    """The kernels that take longest, named after their operations if these are known, and their microseconds."""
    sums: collections.Counter[str] = collections.Counter()
    for event in events:
        operation = event.get("args", {}).get("hlo_op", "")
        known = operation and not operation.startswith("command_buffer")  # a CUDA graph hides its kernels' operations
        sums[operation if known else event["name"][:60]] += event["dur"]
    return sums.most_common(LISTED)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
