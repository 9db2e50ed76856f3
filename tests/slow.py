"""Cases of a parametrised test that `make test` leaves to `make test-slow`."""

import pytest


def rest_slow(cases, quick=1):
    """The cases; those after the first `quick` are marked slow, because they repeat the same check on other values."""
    return [case if number < quick else marked(case) for number, case in enumerate(cases)]


def marked(case):
    """A case, marked slow; a tuple has one value for each argument of the test."""
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
