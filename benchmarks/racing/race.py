"""Races: contestants in their own processes, built together or one by one, and timed in turns within one run."""

import contextlib
import dataclasses
import math
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection

from benchmarks.measure import Measured, spread
from benchmarks.racing.contestants import Spec, module_of, product_size, products_in_an_update, serve
from common.errors import UserError, first_line


@dataclasses.dataclass(frozen=True)
class Entry:
    """A contestant of a race (`contestants.CONTESTANTS`). If a candidate is named, its formulation replaces ours."""

    contestant: str
    spec: Spec
    candidate: str = ""


class Racer:
    """A contestant in its process.

    first_update: seconds of the first update with compilation; None if it failed, or ran beside those of others.
    """

    def __init__(self, entry: Entry, connection: Connection):
        self.entry, self._connection = entry, connection
        self.first_update: float | None = None
        self.failure = ""

    def wait(self, alone: bool) -> None:
        """Waits until the first update is made. alone: True if no other contestant is built in the meantime."""
        try:
            seconds = self._answer()
            self.first_update = seconds if alone else None
        except UserError as error:
            self.failure = str(error)

    def seconds(self, count: int) -> float:
        """The time of `count` updates."""
        self._connection.send(count)
        return self._answer()

    def peak_memory(self) -> float:
        """Ends the process and returns its peak memory in bytes."""
        self._connection.send(None)
        return self._answer()

    def _answer(self) -> float:
        try:
            answer = self._connection.recv()
        except EOFError as error:
            raise UserError(
                "a contestant's process has died, perhaps for want of memory: lower --batch_size"
            ) from error
        if isinstance(answer, Exception):
            raise UserError(f"a contestant has failed: {first_line(answer)}")
        return answer


def share_device() -> None:
    """Lets several processes share a GPU: none of them, this one included, reserves most of its memory.

    If JAX computes on the CPU, the processes see no GPU, so that PyTorch computes on the CPU as well.

    It must be called before anything else uses JAX. Raises UserError on a TPU, which only one process can use.
    """
    import jax

    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if jax.default_backend() == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if jax.default_backend() == "tpu":
        raise UserError(
            "a race needs several processes, and a TPU takes one; `python -m benchmarks.sweep` times networks there, "
            "and JAX_PLATFORMS=cpu races on this machine's CPU"
        )


@contextlib.contextmanager
def started(entries: Mapping[str, Entry], side_by_side: bool = True) -> Iterator[dict[str, Racer]]:
    """The contestants by name, all built or failed; their processes end with the context.

    side_by_side: they are built at the same time, and their first updates are not timed.
    """
    share_device()
    with contextlib.ExitStack() as stack:
        racers = {}
        for name, entry in entries.items():
            racers[name] = stack.enter_context(_process(entry))
            if not side_by_side:
                racers[name].wait(alone=True)
        if side_by_side:
            for racer in racers.values():
                racer.wait(alone=False)
        yield racers


@contextlib.contextmanager
def _process(entry: Entry) -> Iterator[Racer]:
    spawn = multiprocessing.get_context("spawn")  # a fork would share the parent's runtime
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, entry.contestant, entry.spec, entry.candidate))
    process.start()
    theirs.close()
    try:
        yield Racer(entry, ours)
    finally:
        ours.close()
        process.terminate()
        process.join()


def enough_updates(racer: Racer, seconds: float) -> int:
    """The number of updates, in whole calls, that take the contestant about `seconds`."""
    per_call = racer.entry.spec.per_call
    return per_call * max(math.ceil(seconds / racer.seconds(per_call)), 1)


def take_turns(racers: Mapping[str, Racer], counts: Mapping[str, int], rounds: int) -> list[dict[str, float]]:
    """The seconds of an update of each contestant, in each round.

    counts: the updates that each contestant makes in a round. Every second round has the opposite order, so that no
    contestant always follows the same one.
    """
    found = []
    for number in range(rounds):
        names = list(racers) if number % 2 == 0 else list(racers)[::-1]
        seconds = {name: racers[name].seconds(counts[name]) / counts[name] for name in names}
        found.append({name: seconds[name] for name in racers})
    return found


def training_flops(spec: Spec) -> float:
    """The floating-point operations of an update for an image: forwards, twice that backwards, two a multiply-add."""
    from common.anatomy import layer_table

    _, classifier = module_of(spec)
    network = layer_table.rows(classifier.module, classifier.input_shape)[0]
    return 3 * 2 * network.multiply_adds


def shares(spec: Spec, rounds: list[dict[str, float]]) -> Measured:
    """The rate of the contestant 'products', and the share of it that 'ours' reaches."""
    operations = products_in_an_update() * 2 * product_size() ** 3
    rates = [operations / (spec.per_call * seconds["products"]) for seconds in rounds]
    flops = spec.batch_size * training_flops(spec)
    reached = [flops / seconds["ours"] / rate for seconds, rate in zip(rounds, rates, strict=True)]
    return {
        "ours, share of the rate of matrix products": spread(reached),
        "matrix products, TFLOP/s": spread([rate / 1e12 for rate in rates]),
    }
