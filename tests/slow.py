"""Cases of a parametrised test that `make test` leaves to `make test-slow`."""

import pytest


def rest_slow(cases, quick=1):
    """The cases, those after the first `quick` marked slow: they repeat its mechanism on another network or choice."""
    return [case if number < quick else marked(case) for number, case in enumerate(cases)]


def marked(case):
    """A case, a tuple where the test has several arguments, marked slow."""
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
