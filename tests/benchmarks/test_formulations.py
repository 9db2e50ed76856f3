"""The race of formulations: the numbers are those of one update, however many a compiled call makes."""

import dataclasses

import pytest

from benchmarks import formulations
from benchmarks.racing.contestants import Spec
from benchmarks.racing.race import Entry


@dataclasses.dataclass
class Calling:
    """A contestant that makes whole calls only, each update in so many seconds and bytes."""

    entry: Entry
    pace: float

    def seconds(self, count):
        per_call = self.entry.spec.per_call
        return self.pace * (count // per_call) * per_call

    def peak_memory(self):
        return 1000 * self.pace


@pytest.mark.parametrize("per_call", [(1, 50, 200), (50, 1, 200), (7, 3, 5)])
def test_a_formulation_is_timed_in_whole_calls_of_its_own(per_call):
    entries = [Entry("ours", Spec("lenet", "lenet5", 4, 32, "float32", count)) for count in per_call]
    names, paces = ("as it is", "b", "c"), (0.25, 0.5, 0.125)
    racers = {name: Calling(entry, pace) for name, entry, pace in zip(names, entries, paces, strict=True)}
    found = formulations.measured(racers, seconds=62.5, rounds=2)
    medians = {name: value["median"] for name, value in found.items()}
    expected = {"speed with b": 0.5, "memory with b": 2.0, "speed with c": 2.0, "memory with c": 0.5}
    assert medians == pytest.approx({"as it is, milliseconds an update": 250.0, **expected})
