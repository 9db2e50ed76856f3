"""The communication between devices in a compiled program, read from its text: `read(compiled.as_text())`.

One device in a ring of n sends, for an array of B bytes:

    all-reduce       2 (n - 1) / n B      reduce-scatter, then all-gather
    all-gather         (n - 1) / n B      B is the gathered array's
    reduce-scatter     (n - 1) / n B      B is the array's before it is scattered
    all-to-all         (n - 1) / n B
    collective-permute             B
"""

import collections
import dataclasses
import math
import re

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_INSTRUCTION = re.compile(rf"= (\(.*?\)|\S+) ({_KINDS})(-start)?\((.*)")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_CALL = re.compile(r"(?:body|to_apply|calls)=%?([\w.\-]+)")
_CHANNEL = re.compile(r"channel_id=\d+")
_SCATTERED = "all-reduce-scatter"  # a TPU's name for an all-reduce after which each device keeps only its part
_TRIPS = re.compile(r'known_trip_count[^\d]*"n":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One communication of one array, or of several at once.

    result_bytes: size of the result on each device. devices: number of devices that communicate with each other.
    times: executions in a run of the program, counting each turn of a loop.
    """

    kind: str
    result_bytes: int
    devices: int
    times: int

    @property
    def sent(self) -> float:
        """Bytes that one device sends, by the convention above."""
        share = (self.devices - 1) / self.devices
        factor = {"all-reduce": 2 * share, "reduce-scatter": self.devices - 1, "collective-permute": 1}
        return self.times * self.result_bytes * factor.get(self.kind, share)


def read(text: str) -> list[Collective]:
    """The collectives of a compiled module (`jit(f).lower(...).compile().as_text()`)."""
    found, met = {}, collections.Counter()
    for one in instructions(text):
        if collective := _collective(one):
            channel = _CHANNEL.search(one.text)
            place = one.computation, channel and channel[0], collective
            met[place] += 1
            # On a TPU a communication's start, middle and end are computations that all repeat its instruction.
            found[(channel[0], collective, met[place]) if channel else one.text] = collective
    return list(found.values())


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a compiled module, the name of its computation, and how often a run of the program executes it."""

    text: str
    computation: str
    times: int


def instructions(text: str) -> list[Instruction]:
    """The instructions of a compiled module."""
    bodies, entry = _computations(text)
    times = collections.Counter({entry: 1})
    for name in _callers_first(bodies, entry):
        for line in bodies[name]:
            turns = int(match[1]) if " while(" in line and (match := _TRIPS.search(line)) else 1
            for callee in _CALL.findall(line):
                times[callee] += turns * times[name]
    return [Instruction(line, name, times[name]) for name, body in bodies.items() for line in body]


def sent(found: list[Collective]) -> dict[str, float]:
    """Bytes that one device sends, by kind."""
    sums = collections.Counter()
    for one in found:
        sums[one.kind] += one.sent
    return dict(sums)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation, and the name of the first one to run."""
    bodies, entry, name = {}, "", ""
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            name = header[2]
            bodies[name] = []
            entry = name if header[1] else entry
        elif name:
            bodies[name].append(line)
    return bodies, entry


def _callers_first(bodies: dict[str, list[str]], entry: str) -> list[str]:
    """The computations that the entry reaches, each after all of its callers."""
    order, seen = [], set()

    def visit(name: str) -> None:
        if name in seen or name not in bodies:
            return
        seen.add(name)
        for line in bodies[name]:
            for callee in _CALL.findall(line):
                visit(callee)
        order.append(name)

    visit(entry)
    return order[::-1]


def _collective(instruction: Instruction) -> Collective | None:
    match = _INSTRUCTION.search(instruction.text)
    if match is None or not instruction.times:
        return None
    result, kind, start, rest = match.groups()
    sizes = [
        math.prod(map(int, filter(None, shape.split(",")))) * _BYTES[name] for name, shape in _ARRAY.findall(result)
    ]
    if start and kind != "all-reduce":
        sizes = sizes[len(sizes) // 2 :]  # the first half repeats the operands
    size, devices = sum(sizes), _group_size(rest)
    if instruction.computation.startswith(_SCATTERED):
        kind, size = "reduce-scatter", size // devices
    return Collective(kind, size, devices, instruction.times)


def _group_size(rest: str) -> int:
    """The number of devices in a group, from any of the notations of groups."""
    if compact := re.search(r"replica_groups=\[(\d+),(\d+)\]", rest):
        return int(compact[2])
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(listed[1].split(","))
    if named := re.search(r"replica_groups=mesh\[([^]]*)\](?:, device_ids=\([^{]*\))? \{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        parts = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part or sizes[axis]) for axis, part in parts)
    if "source_target_pairs" in rest:
        return 2
    raise ValueError(f"no groups of devices in '{rest[:200]}'")
