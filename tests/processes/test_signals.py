"""Requests to stop, in a process that may ignore some of them."""

import os
import signal

import pytest

from common.processes import signals


@pytest.fixture
def usual():
    """Handlers of our own for two signals, so that a second request can be seen."""
    came = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, lambda number, frame: came.append(number))
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_request_is_noticed_and_the_second_has_its_usual_effect(usual):
    also = []
    with signals.noticed((signal.SIGTERM, signal.SIGHUP), also=lambda: also.append(1)) as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
        assert (usual, also) == ([], [1])
        os.kill(os.getpid(), signal.SIGTERM)
        assert (usual, also) == ([signal.SIGTERM], [1])
    os.kill(os.getpid(), signal.SIGHUP)
    assert usual == [signal.SIGTERM, signal.SIGHUP]


def test_an_ignored_signal_stays_ignored(usual):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.noticed((signal.SIGTERM, signal.SIGHUP)) as asked:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not asked()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
