"""Training speed of networks: `python -m benchmarks.throughput --models=resnet:resnet50,vit:s16 [--peer=torch]`.

Times one update (forward, backward, momentum) on a batch that is already on the device: ours, and the same network's in
PyTorch. Each has its own process, and they take turns within one run. A chain of matrix products takes turns with them,
so that the share of the machine's rate that a network reaches is measured in the same minutes. Writes medians and
spreads to results/benchmark_throughput*.json; `python -m common.tables` makes the table.
"""

import contextlib
import multiprocessing
import pathlib
from collections.abc import Iterator
from multiprocessing.connection import Connection

from absl import flags

from benchmarks.contestants import PRODUCTS, Spec, module_of, product_size, serve
from benchmarks.measure import Measured, record, spread
from common import launch
from common.errors import UserError

_MODELS = flags.DEFINE_list("models", [], "networks to time, as FAMILY:VARIANT")
_PEER = flags.DEFINE_enum("peer", "none", ["none", "torch"], "library to race against")
_BATCH = flags.DEFINE_integer("batch_size", 16, "images in an update", lower_bound=2)
_SIZE = flags.DEFINE_integer("image_size", 224, "side of the images, pixels", lower_bound=8)
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "precision of the computation")
_STEPS = flags.DEFINE_integer("steps", 2, "updates in one measurement", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "measurements of each contestant", lower_bound=2)
_OUT = flags.DEFINE_string("out", "results", "folder of the results")


def main() -> None:
    """Times every network that the flags name."""
    if not _MODELS.value:
        raise UserError("--models is empty; for example --models=resnet:resnet50,vit:s16")
    specs = [_spec(name) for name in _MODELS.value]
    for spec in specs:
        module_of(spec)  # refuses what does not exist before anything is timed
    for spec in specs:
        _record(spec, race(spec))


def _spec(name: str) -> Spec:
    family, _, variant = name.partition(":")
    return Spec(family, variant, _BATCH.value, _SIZE.value, _DTYPE.value)


def race(spec: Spec) -> Measured:
    """The results for a network by name, with median, lowest and highest: images/s, ratios, shares, GB, seconds."""
    names = ["ours", "products", *([_PEER.value] if _PEER.value != "none" else [])]
    with contextlib.ExitStack() as stack:
        sides = {name: stack.enter_context(_contestant(name, spec)) for name in names}
        builds = {name: _answer(side) for name, side in sides.items()}
        rounds = [{name: _ask(side, _STEPS.value) for name, side in sides.items()} for _ in range(_ROUNDS.value)]
        memory = {name: _ask(side, None) for name, side in sides.items()}
    images = _STEPS.value * spec.batch_size
    rates = [_STEPS.value * PRODUCTS * 2 * product_size() ** 3 / seconds["products"] for seconds in rounds]
    shares = [
        images * training_flops(spec) / seconds["ours"] / rate for seconds, rate in zip(rounds, rates, strict=True)
    ]
    found = {"ours, images/s": spread([images / seconds["ours"] for seconds in rounds])}
    if (peer := names[-1]) != "products":
        found[f"{peer}, images/s"] = spread([images / seconds[peer] for seconds in rounds])
        found[f"ours over {peer}"] = spread([seconds[peer] / seconds["ours"] for seconds in rounds])
        found[f"{peer}, peak memory, GB"] = spread([memory[peer] / 1e9])
    found["ours, share of the rate of matrix products"] = spread(shares)
    found["matrix products, TFLOP/s"] = spread([rate / 1e12 for rate in rates])
    found["ours, peak memory, GB"] = spread([memory["ours"] / 1e9])
    found["ours, first step with compilation, s"] = spread([builds["ours"]])
    return found


def training_flops(spec: Spec) -> float:
    """Floating-point operations of an update for one image: once forwards, twice backwards, two a multiply-add."""
    from common.anatomy import layer_table

    _, classifier = module_of(spec)
    network = layer_table.rows(classifier.module, classifier.input_shape)[0]
    return 3 * 2 * network.multiply_adds


@contextlib.contextmanager
def _contestant(name: str, spec: Spec) -> Iterator[Connection]:
    """The pipe to a contestant, whose process ends with the context."""
    spawn = multiprocessing.get_context("spawn")  # a fork would share the parent's runtime
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, name, spec), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.terminate()
        process.join()


def _ask(side: Connection, question: int | None) -> float:
    side.send(question)
    return _answer(side)


def _answer(side: Connection) -> float:
    try:
        answer = side.recv()
    except EOFError as error:
        raise UserError("a contestant's process has died, perhaps for want of memory: lower --batch_size") from error
    if isinstance(answer, Exception):
        raise UserError(f"a contestant has failed: {type(answer).__name__}: {str(answer).splitlines()[0]}")
    return answer


def _record(spec: Spec, found: Measured) -> None:
    from common.run import workdir

    name = f"{spec.family} {spec.variant}, batch {spec.batch_size} at {spec.image_size}, {spec.dtype}"
    options = [f"--models={spec.family}:{spec.variant}", f"--peer={_PEER.value}", f"--batch_size={spec.batch_size}"]
    options += [f"--image_size={spec.image_size}", f"--dtype={spec.dtype}"]
    device = workdir.environment()["devices"].rpartition(" x ")[2].replace(" ", "_")
    file = f"benchmark_throughput_{spec.family}_{spec.variant}_{spec.dtype}_{device}.json"
    command = " ".join(["python -m benchmarks.throughput", *options])
    record(pathlib.Path(_OUT.value) / file, f"throughput, {name}", found, command)


if __name__ == "__main__":
    launch.run(main)
