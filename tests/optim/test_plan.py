"""The steps at which a run logs, evaluates and saves, and its compiled calls."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import models
from common.config import base
from common.devices import compilation
from common.errors import UserError
from common.optim import duration
from common.optim.plan import Plan, check, make_plan


@given(
    total=st.integers(1, 300),
    epoch=st.floats(0.3, 90),
    cycles=st.tuples(*[st.integers(1, 100)] * 3),
    per_call=st.integers(1, 50),
    ends=st.tuples(st.integers(0, 400), st.integers(0, 400)),
)
def test_calls_cover_the_run_and_stop_at_whatever_is_due(total, epoch, cycles, per_call, ends):
    plan = Plan(total, epoch, *cycles, per_call, ends=ends)
    stops, step = {0}, 0
    while step < total:
        count = plan.updates_from(step)
        assert 1 <= count <= per_call
        step += count
        stops.add(step)
    assert step == total
    for at in range(1, total):
        due = (plan.logs_after(at), plan.evaluates_after(at), plan.saves_after(at), plan.starts_epoch(at), at in ends)
        if any(due):
            assert at in stops
    assert plan.logs_after(total)
    assert plan.evaluates_after(total)
    assert plan.saves_after(total)


@pytest.mark.parametrize("epoch", [0.3, 1.0, 1.5, 10.4, 10.5, 468.75])
def test_each_pass_starts_at_the_update_that_is_nearest_to_it(epoch):
    plan = Plan(1000, epoch, 100, 100, 100, per_call=0)
    nearest = {round(number * epoch) for number in range(round(1000 / epoch) + 1)}
    assert {step for step in range(1000) if plan.starts_epoch(step)} == nearest - {1000}


@pytest.mark.parametrize(("on_cpu", "resident", "many"), [(True, True, 0), (False, False, 0), (False, True, 1)])
def test_a_call_makes_many_updates_where_that_is_faster(monkeypatch, on_cpu, resident, many):
    monkeypatch.setattr(compilation, "on_cpu", lambda: on_cpu)
    plan = Plan(1000, 100.0, 100, 100, 100, per_call=0)
    assert (plan.with_per_call(resident).per_call > 1) == many
    assert dataclasses.replace(plan, per_call=7).with_per_call(resident).per_call == 7
    assert dataclasses.replace(plan, per_call=10**18).with_per_call(resident).per_call == 1000  # no room for more


def test_durations_in_epochs_round_to_the_nearest_update():
    assert duration.to_steps("2 epochs", 1437, 128) == 22
    assert duration.to_steps("0.5 epochs", 1000, 100) == 5
    assert duration.to_steps("64000 steps", 50000, 128) == 64000
    assert duration.to_steps("0.001 epochs", 10, 10) == 1
    assert duration.to_steps("0 steps", 10, 10) == 0
    for endless in ("5000000000 steps", "1000000000 epochs", f"{'9' * 320} epochs"):
        assert duration.to_steps(endless, 1000, 10) == 2**31 - 1


def keeping(every, keep_every, batch_size=128):
    config = base(models.section("lenet", "lenet5"))
    config.checkpoint.every, config.checkpoint.keep_every, config.train.batch_size = every, keep_every, batch_size
    return config


def test_checkpoints_are_kept_at_multiples_of_epochs_that_are_not_whole_updates():
    plan = make_plan(keeping("1 epoch", "5 epochs"), 60_000)  # 468.75 and 2343.75 updates
    assert (plan.save_every, plan.keep_every) == (469, 5 * 469)


@settings(deadline=None)
@given(every=st.integers(1, 40), times=st.integers(1, 9), examples=st.integers(1, 5000), size=st.integers(1, 300))
def test_any_multiple_of_the_time_between_checkpoints_is_kept(every, times, examples, size):
    config = keeping(f"{every / 10} epochs", f"{every * times / 10} epochs", size)
    check(config)
    plan = make_plan(config, examples)
    assert plan.keep_every > 0
    assert plan.keep_every % plan.save_every == 0


@pytest.mark.parametrize(
    ("every", "keep_every", "examples"), [("20 steps", "30 steps", 1000), ("1 epoch", "100 steps", 60_000)]
)
def test_checkpoints_to_keep_that_are_never_made_are_refused(every, keep_every, examples):
    with pytest.raises(UserError, match=r"use a multiple of config\.checkpoint\.every"):
        make_plan(keeping(every, keep_every), examples)


def test_a_trace_that_would_begin_after_the_end_is_refused():
    config = base(models.section("lenet", "lenet5"))
    config.train.length, config.profile.start, config.profile.steps = "10 steps", 9, 5
    assert make_plan(config, 1000).ends == (9, 14)
    config.profile.start = 10
    with pytest.raises(UserError, match="config.profile.start is 10, but the run has 10 updates"):
        make_plan(config, 1000)
    config.profile.steps = 0
    assert make_plan(config, 1000).ends == ()


@pytest.mark.parametrize("option", ["train.length", "train.log_every", "evaluate.every", "checkpoint.every"])
def test_no_time_is_refused_where_it_could_mean_never(option):
    config = base(models.section("lenet", "lenet5"))
    config.update_from_flattened_dict({option: "0 epochs"})
    with pytest.raises(UserError, match=f"config.{option} is '0 epochs'; expected more than 0"):
        check(config)


@pytest.mark.parametrize("text", ["20", "epochs", "-1 epochs", "3 weeks", ""])
def test_a_malformed_duration_names_the_option(text):
    with pytest.raises(UserError, match=r"config.train.length is .*; expected a duration such as '20 epochs'"):
        duration.parse(text, "config.train.length")
