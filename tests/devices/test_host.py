"""The processor that results name, and the cores and the memory of a process."""

import os

import numpy as np
import pytest

from common.devices import host


def test_the_peak_of_memory_stays_after_memory_is_given_back():
    before = host.resident_memory()
    block = np.ones(2**25)
    assert host.resident_memory() > before + 2**27
    del block
    assert host.peak_resident_memory() > before + 2**27


def test_a_process_has_the_cores_that_it_may_use():
    assert 1 <= host.cores() <= os.cpu_count()


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx avx2 fma\n", "AMD EPYC (AVX2)"),
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx avx2 avx512f avx512bw\n", "AMD EPYC (AVX-512)"),
        ("model name\t: ARMv8 Processor\nFeatures\t: asimd sve\n", "ARMv8 Processor"),
    ],
)
def test_two_generations_of_processors_with_one_model_name_differ_in_their_vectors(facts, name):
    assert host.processor(facts) == name


def test_a_processor_without_a_model_name_is_called_by_its_architecture():
    assert host.processor("Features\t: asimd\n") == host.processor("") != ""


def test_this_machine_has_a_processor():
    assert host.processor(host.processor_facts())
