"""Campaigns that go on after a kill."""

import dataclasses

from benchmarks.survival import fault_counts
from benchmarks.survival.fault_counts import Fault, Outcome

FAULT = Fault("SIGKILL", "train", 1, 10, 10, 0.5, hang=False)
RUN = Outcome(0, 1, (FAULT,), 0, True, False, False)


def test_a_campaign_of_kills_goes_on_after_a_line_that_a_kill_cut_short(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert fault_counts.earlier(path) == []
    fault_counts.keep(path, RUN)
    fault_counts.keep(path, RUN)
    path.write_bytes(path.read_bytes()[:-20])
    assert fault_counts.earlier(path) == [RUN]
    other = dataclasses.replace(RUN, number=1)
    fault_counts.keep(path, other)
    assert fault_counts.earlier(path) == [RUN, other]
