"""The cores and the memory of a process."""

import os

import numpy as np

from common.devices import host


def test_the_peak_of_memory_stays_after_memory_is_given_back():
    before = host.resident_memory()
    block = np.ones(2**25)
    assert host.resident_memory() > before + 2**27
    del block
    assert host.peak_resident_memory() > before + 2**27


def test_a_process_has_the_cores_that_it_may_use():
    assert 1 <= host.cores() <= os.cpu_count()
