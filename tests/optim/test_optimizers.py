"""Optimizers against the papers' update equations, written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from common import train
from common.config import base
from common.errors import UserError
from common.optim import optimizers, registry
from common.run import metrics
from tests import small_run

KINDS = ("coupled", "decoupled")
PARAMS = {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.array([0.1, -0.2])}


def gradients(step):
    return jax.tree.map(lambda p: jnp.cos(p + step), PARAMS)


def section(**changes):
    config = base(ConfigDict()).optimizer
    with config.unlocked():
        config.update(changes)
    return config


def run(config, rates, plateau=False):
    """Parameters after one update for each learning rate, and the optimizer's last state."""
    table = jnp.asarray(rates)
    optimizer = optimizers.make_chain(config, lambda step: table[step], plateau)
    params, state = PARAMS, optimizer.init(PARAMS)
    for step in range(len(rates)):
        updates, state = optimizer.update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def alexnet(rates, momentum, decay):
    """v <- momentum v - decay rate w - rate g; w <- w + v (AlexNet, section 5), in float64."""
    w = {name: np.asarray(value, np.float64) for name, value in PARAMS.items()}
    v = {name: np.zeros_like(value) for name, value in w.items()}
    for step, rate in enumerate(rates):
        g = gradients(step)
        for name in w:
            v[name] = momentum * v[name] - decay * rate * w[name] - rate * np.asarray(g[name], np.float64)
            w[name] = w[name] + v[name]
    return w


def test_momentum_is_alexnets_update_while_the_rate_changes():
    rates = [0.1, 0.1, 0.01, 0.01]
    ours, _ = run(section(name="momentum", momentum=0.9, weight_decay=0.0005), rates)
    theirs = alexnet(rates, 0.9, 0.0005)
    for name in PARAMS:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)


def test_lowering_the_rate_does_not_rescale_the_velocity():
    config = section(name="momentum", momentum=0.9)
    optimizer = optimizers.make_chain(config, lambda step: jnp.where(step == 0, 1.0, 0.0), plateau=False)
    updates, state = optimizer.update(gradients(0), optimizer.init(PARAMS), PARAMS)
    again, _ = optimizer.update(gradients(1), state, PARAMS)
    np.testing.assert_allclose(again["kernel"], 0.9 * updates["kernel"], rtol=1e-6)


def test_without_gradient_or_velocity_decay_shrinks_weights_by_rate_times_decay():
    optimizer = optimizers.make_chain(section(weight_decay=0.0005), optax.constant_schedule(0.01), plateau=False)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, PARAMS), optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["kernel"], -0.01 * 0.0005 * PARAMS["kernel"], rtol=1e-6)


def test_adamw_decays_apart_from_the_gradient_as_optax_does():
    config = section(name="adamw", decay="decoupled", weight_decay=0.1, eps=1e-8)
    ours, _ = run(config, [0.01, 0.02])
    theirs = optax.adamw(lambda step: jnp.asarray([0.01, 0.02])[step], weight_decay=0.1)
    params, state = PARAMS, theirs.init(PARAMS)
    for step in range(2):
        updates, state = theirs.update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(ours["kernel"], params["kernel"], rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_both_kinds_of_decay_are_the_same_where_nothing_divides_the_gradient(name):
    coupled, decoupled = (run(section(name=name, weight_decay=0.1, decay=kind), [0.1, 0.2])[0] for kind in KINDS)
    jax.tree.map(np.testing.assert_array_equal, coupled, decoupled)


def test_kernels_mask_spares_biases():
    config = section(name="sgd", weight_decay=0.5, decay_mask="kernels")
    ours, _ = run(config, [0.1])
    plain, _ = run(section(name="sgd"), [0.1])
    np.testing.assert_array_equal(ours["bias"], plain["bias"])
    assert not np.allclose(ours["kernel"], plain["kernel"])


def test_kernels_mask_goes_by_name_where_biases_are_stacked_or_one_for_each_unit():
    params = {"stack": {"kernel": jnp.ones((3, 4, 4)), "bias": jnp.ones((3, 4))}, "map": {"bias": jnp.ones((8, 8, 2))}}
    config = section(name="sgd", weight_decay=0.5, decay_mask="kernels")
    optimizer = optimizers.make_chain(config, optax.constant_schedule(1.0), plateau=False)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["stack"]["kernel"], -0.5)
    assert not updates["stack"]["bias"].any()
    assert not updates["map"]["bias"].any()


def test_clipping_bounds_the_global_norm():
    ours, _ = run(section(name="sgd", clip_norm=1e-3), [1.0])
    moved = jax.tree.map(lambda a, b: a - b, ours, PARAMS)
    np.testing.assert_allclose(optax.tree.norm(moved), 1e-3, rtol=1e-3)


def test_plateau_drops_after_patience_and_scales_what_enters_the_velocity():
    schedule = base(ConfigDict()).schedule
    with schedule.unlocked():
        schedule.update(name="plateau", patience=2, factor=0.1)
    momentum = section(name="momentum", momentum=0.9)
    _, state = run(momentum, [0.1], plateau=True)
    for error in (0.5, 0.4, 0.41, 0.42):
        state = optimizers.reduce_on_plateau(state, schedule, error)
    assert float(optimizers.plateau_state(state).scale) == pytest.approx(0.1)
    state = optimizers.reduce_on_plateau(state, schedule, 0.3)
    assert float(optimizers.plateau_state(state).scale) == pytest.approx(0.1)
    optimizer = optimizers.make_chain(momentum, optax.constant_schedule(0.1), plateau=True)
    updates, _ = optimizer.update(gradients(1), state, PARAMS)
    for name, v in updates.items():
        np.testing.assert_allclose(v, 0.9 * -0.1 * gradients(0)[name] - 0.01 * gradients(1)[name], rtol=1e-5)


def test_one_image_fewer_is_an_improvement_and_none_fewer_is_not():
    schedule = base(ConfigDict()).schedule
    schedule.patience = 1
    _, state = run(section(name="sgd"), [0.1], plateau=True)
    for wrong, scale in ((20_001, 1.0), (20_000, 1.0), (19_999, 1.0), (19_999, 0.1), (0, 0.1), (0, 0.01)):
        state = optimizers.reduce_on_plateau(state, schedule, wrong / 50_000)
        assert float(optimizers.plateau_state(state).scale) == pytest.approx(scale)


def test_a_run_that_goes_on_with_less_patience_than_it_has_waited_lowers_its_rate_at_the_next_evaluation():
    schedule = base(ConfigDict()).schedule
    _, state = run(section(name="sgd"), [0.1], plateau=True)
    for patience, scale in ((5, 1.0), (5, 1.0), (5, 1.0), (5, 1.0), (2, 0.1), (2, 0.1), (2, 0.01)):
        schedule.patience = patience
        state = optimizers.reduce_on_plateau(state, schedule, 0.5)
        assert float(optimizers.plateau_state(state).scale) == pytest.approx(scale)


@pytest.mark.slow
def test_a_run_whose_error_stalls_lowers_its_rate_three_times(tmp_path, capsys):
    lengths = {"train.length": "6 steps", "train.log_every": "1 step", "evaluate.every": "1 step"}
    config = small_run.get_config(**lengths, **{"data.limit": 4, "checkpoint.every": "6 steps"})
    # So slow that no test error changes: the first is the best one, and each later one does not improve on it.
    config.schedule.update(name="plateau", learning_rate=1e-9, warmup="20 epochs", patience=1)
    train.fit(config, tmp_path)
    rates = [record["learning_rate"] for record in metrics.read(tmp_path, "train")]
    np.testing.assert_allclose(rates, [1e-9, 1e-9, 1e-10, 1e-11, 1e-12, 1e-12], rtol=1e-5)
    said = capsys.readouterr().out
    assert "a batch is 2.00 times the training set" in said
    assert "the warm-up of '20 epochs' would take the whole run, so it is shortened to a tenth, 0 updates" in said


def test_every_optimizer_lowers_a_quadratic():
    for name, entry in optimizers.OPTIMIZERS.items():
        config = section(name=name, decay="decoupled" if name == "adamw" else "coupled")
        assert set(entry.reads) <= set(config)
        optimizer = optimizers.make_chain(config, optax.constant_schedule(0.01), plateau=False)
        params, state = PARAMS, optimizer.init(PARAMS)
        for _ in range(20):
            updates, state = optimizer.update(params, state, params)
            params = optax.apply_updates(params, updates)
        assert optax.tree.norm(params) < optax.tree.norm(PARAMS), name


def test_an_option_that_the_optimizer_ignores_is_an_error():
    config = base(ConfigDict())
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.5
    with pytest.raises(UserError, match=r"optimizer.momentum is set, but optimizer 'sgd' does not read it"):
        registry.check(config, base(ConfigDict()), "optimizer", optimizers.OPTIMIZERS, optimizers.SHARED_KEYS)


def test_adams_first_moment_can_be_kept_in_bfloat16():
    chain = optimizers.make_chain(section(name="adam", moment_dtype="bfloat16"), lambda step: 0.1, plateau=False)
    adam = next(part for part in chain.init(PARAMS) if hasattr(part, "mu"))
    assert (adam.mu["kernel"].dtype, adam.nu["kernel"].dtype) == (jnp.bfloat16, jnp.float32)
