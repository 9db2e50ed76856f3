"""Batch normalisation over the whole batch and over groups of it, on one device and on eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_norm_reference import GROUPS, ours, reference

from common.errors import UserError
from common.nn import batch_norm
from common.nn.batch_norm import BatchNorm, centred_statistics, group_statistics, normalised
from tests.runs import run


@pytest.fixture(scope="module")
def on_eight_devices(tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "results.npz"
    code, _, errors = run(path, module="tests.nn.batch_norm_reference", devices=8)
    assert code == 0, errors
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("groups", GROUPS)
def test_batch_norm_is_the_float64_reference_on_one_device(groups, centred, monkeypatch):
    monkeypatch.setattr(batch_norm, "stores_centred_images", lambda: centred)
    expected, found = reference(groups), ours(groups)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("groups", GROUPS)
def test_batch_norm_is_the_float64_reference_on_eight_devices(groups, on_eight_devices):
    assert on_eight_devices["devices"] == 8
    for name, expected in reference(groups).items():
        np.testing.assert_allclose(on_eight_devices[f"{groups}/{name}"], expected, rtol=1e-5, atol=2e-5, err_msg=name)


def test_evaluation_uses_running_statistics_exactly_and_leaves_them():
    rng = np.random.default_rng(1)
    x, mean, var = rng.normal(size=(2, 4, 4, 3)), rng.normal(size=3), rng.uniform(0.1, 5, 3)
    variables = {
        "params": {"scale": jnp.full(3, 2.0), "bias": jnp.full(3, -1.0)},
        "batch_stats": {"mean": jnp.float32(mean), "var": jnp.float32(var)},
    }
    y, state = BatchNorm(groups=7).apply(variables, jnp.float32(x), train=False, mutable="batch_stats")
    np.testing.assert_allclose(y, 2 * (x - mean) / np.sqrt(var + 1e-5) - 1, rtol=1e-5, atol=1e-6)
    assert state["batch_stats"]["mean"] is variables["batch_stats"]["mean"]
    alone = BatchNorm().apply(variables, jnp.float32(x[:1]), train=False)
    np.testing.assert_array_equal(alone, y[:1])


def test_statistics_stay_float32_in_bfloat16():
    x = jax.random.normal(jax.random.key(0), (64, 8, 8, 2), jnp.bfloat16)
    module = BatchNorm(dtype="bfloat16", momentum=0.0)
    variables = module.init(jax.random.key(0), x, train=False)
    y, state = module.apply(variables, x, train=True, mutable="batch_stats")
    assert y.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(state["batch_stats"]["var"], exact.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["mean"], exact.mean((0, 1, 2)), atol=1e-6)


def test_the_variance_is_precise_far_from_zero():
    x = np.random.default_rng(2).normal(3000.0, 1.0, (1, 64, 1, 4, 4, 2)).astype(np.float32)
    exact = np.float64(x).var((1, 3, 4))
    np.testing.assert_allclose(group_statistics(jnp.asarray(x), jnp.full(2, 2999.0))[1], exact, rtol=1e-5)
    np.testing.assert_allclose(centred_statistics(jnp.asarray(x))[1], exact, rtol=1e-5)


def test_a_cpu_stores_the_images_once_without_their_mean():
    # The gradients need nothing else of their size.
    def stored(centred, monkeypatch):
        monkeypatch.setattr(batch_norm, "stores_centred_images", lambda: centred)
        x, channels = jnp.ones((1, 4, 1, 4, 4, 2)), jnp.ones(2)
        kept = jax.eval_shape(lambda: jax.vjp(lambda x: normalised(x, channels, channels, channels, 1e-5)[0], x)[1])
        return sum(leaf.size == x.size for leaf in jax.tree.leaves(kept))

    with pytest.MonkeyPatch.context() as monkeypatch:
        assert stored(True, monkeypatch) == stored(False, monkeypatch) == 1


def test_initial_running_statistics_do_not_depend_on_the_first_batch():
    x = jnp.full((4, 2, 2, 1), 9.0)
    for train in (False, True):
        stats = BatchNorm().init(jax.random.key(0), x, train=train)["batch_stats"]
        assert (stats["mean"], stats["var"]) == (0, 1)


@pytest.mark.parametrize(
    ("batch", "groups", "message"),
    [
        (6, (4, 1), "batch_groups is 4, which does not divide a batch of 6"),
        (6, (0, 4), "ghost_batches is 4, which does not divide a batch of 6"),
        (4, (2, 2), "4 groups has one"),
        (1, (0, 1), "1 group has one"),
    ],
)
def test_impossible_groups_are_refused_in_one_line(batch, groups, message):
    module, x = BatchNorm(groups=groups[0], ghost_batches=groups[1]), jnp.zeros((batch, 2, 2, 1))
    variables = module.init(jax.random.key(0), x, train=False)
    with pytest.raises(UserError, match=message) as error:
        jax.jit(lambda x: module.apply(variables, x, train=True, mutable="batch_stats"))(x)
    assert "\n" not in str(error.value)
