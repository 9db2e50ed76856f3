"""Tests that a run traces the updates that it is asked for, however many it makes in a call."""

import jax
import pytest

from common import train
from tests import small_run


def test_the_steps_of_the_profile_are_traced(tmp_path, monkeypatch):
    profile = {"profile.start": 5, "profile.steps": 3}
    config = small_run.get_config(**{"train.length": "20 steps", "train.steps_per_call": 20, **profile})
    traced, made = [], []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: traced.append((sum(made), folder)))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: traced.append(sum(made)))
    compile_update = train.compile_update

    def counted(*arguments, **options):
        update = compile_update(*arguments, **options)

        def call(state, sums, batches, count):
            made.append(count)
            return update(state, sums, batches, count)

        return call

    monkeypatch.setattr(train, "compile_update", counted)
    train.fit(config, tmp_path)
    assert traced == [(5, str(tmp_path / "profile")), 8]
    assert sum(made) == 20


@pytest.mark.slow
def test_a_run_that_goes_on_behind_the_steps_to_be_traced_says_so(tmp_path, capsys):
    train.fit(small_run.get_config(**{"train.length": "20 steps"}), tmp_path)
    train.fit(small_run.get_config(**{"train.length": "30 steps", "profile.steps": 3}), tmp_path)
    assert "no step is traced: config.profile.start is 10, and the run goes on from step 20" in capsys.readouterr().out
