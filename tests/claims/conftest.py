"""Flags with values, for tests that call a command's functions in this process."""

import pytest
from absl import flags


@pytest.fixture
def given_flags(monkeypatch):
    """Gives flags the values that a command line would; they have their own again when the test ends."""

    def give(**values):
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        for name, value in values.items():
            monkeypatch.setattr(flags.FLAGS[name], "value", value)

    return give
