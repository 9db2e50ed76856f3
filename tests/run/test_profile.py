"""Tests that a run traces the updates that it is asked for, however many it makes in a call."""

import jax

from common import train
from common.run import workdir
from tests.digits_run import digits_run


def test_the_steps_of_the_profile_are_traced(tmp_path, monkeypatch):
    config = workdir.load_config(digits_run())
    config.evaluate.train_set = False
    config.train.length, config.train.steps_per_call = "20 steps", 20
    config.profile.start, config.profile.steps = 5, 3
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
