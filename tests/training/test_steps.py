"""Update and evaluation steps: sums, accumulation, averaging, divergence."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ml_collections import ConfigDict
from sklearn.utils.class_weight import compute_class_weight

from common import models
from common.config import base
from common.devices import mesh as mesh_lib
from common.errors import UserError
from common.models import Classifier
from common.nn.losses import balanced_weights, cross_entropy
from common.training.state import create_state
from common.training.steps import check_support, compile_update, eval_step, train_step
from common.training.totals import NEVER, class_counts, no_totals, stop_if_diverged, totals
from tests.slow import rest_slow


class Net(nn.Module):
    """A hidden layer and ten logits."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.tanh(nn.Dense(16)(images.reshape(len(images), -1)))
        return nn.Dense(10)(x)


CLASSIFIER = Classifier(Net(), cross_entropy, lambda outputs: outputs, (4, 4, 1), 10, soft_labels=True)
OPTIMIZER = optax.sgd(0.1)
IMAGES = jax.random.normal(jax.random.key(0), (12, 4, 4, 1))
LABELS = jnp.arange(12) % 10


FIXED = {"classifier": CLASSIFIER, "optimizer": OPTIMIZER, "transform": lambda key, images: images}


@functools.cache
def start(averaged=False):
    return jax.jit(functools.partial(create_state, CLASSIFIER, OPTIMIZER, 0, averaged))()


def step_with(**options):
    """The compiled update with these options."""
    return jax.jit(functools.partial(train_step, **FIXED | options))


PLAIN = step_with()


def updated(steps=1, averaged=False, **options):
    state, step = start(averaged), step_with(**options) if options else PLAIN
    for _ in range(steps):
        state, sums = step(state, IMAGES, LABELS)
    return state, sums


@functools.cache
def updates():
    """The compiled program of several updates on one device, which uses up the state that it is given."""
    mesh = mesh_lib.make_mesh(ConfigDict({"devices": 1, "fsdp": 1}))
    return compile_update(lambda batches, i: (batches[0][i], batches[1][i]), mesh, **FIXED)


def test_one_update_is_gradient_descent_on_the_mean_loss():
    before, (after, sums) = start(), updated()

    def loss(params):
        return cross_entropy(Net().apply({"params": params}, IMAGES), LABELS).mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(before.params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, expected)
    assert float(sums.loss) / 12 == pytest.approx(float(value), rel=1e-5)
    assert int(after.step) == 1


@pytest.mark.parametrize("parts", [2, 12])
def test_accumulation_gives_the_same_update(parts):
    whole, whole_sums = updated()
    split, split_sums = updated(accumulate=parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), split.params, whole.params)
    assert float(split_sums.loss) == pytest.approx(float(whole_sums.loss), rel=1e-5)
    assert float(split_sums.count) == 12


def test_averaged_parameters_follow_with_their_keep_factor():
    before = start(averaged=True).replace(step=jnp.asarray(1000, jnp.int32))
    after, _ = step_with(ema=0.9)(before, IMAGES, LABELS)
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, before.params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.variables()["params"], expected)


def test_a_short_runs_average_is_of_its_end_and_not_of_its_start():
    # After t updates the keep-factor is at most (1 + t) / (10 + t).
    start_params, (after, _) = start().params, updated(steps=2, averaged=True, ema=0.9999)
    one, two = (updated(steps=steps)[0].params for steps in (1, 2))
    expected = jax.tree.map(lambda a, b, c: 2 / 11 * (0.1 * a + 0.9 * b) + 9 / 11 * c, start_params, one, two)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.variables()["params"], expected)


def test_averaged_parameters_come_with_averaged_batch_statistics():
    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            return nn.Dense(10)(nn.BatchNorm(not train, momentum=0.5)(images.reshape(len(images), -1)))

    classifier = dataclasses.replace(CLASSIFIER, module=Normalised())
    before = jax.jit(functools.partial(create_state, classifier, OPTIMIZER, 0, averaged=True))()
    before = before.replace(step=jnp.asarray(1000, jnp.int32))
    after, _ = step_with(classifier=classifier, ema=0.9)(before, IMAGES, LABELS)
    old, new = before.model_state["batch_stats"], after.model_state["batch_stats"]
    expected = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, old, new)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.variables()["batch_stats"], expected)


def test_the_first_update_with_a_bad_loss_is_named():
    batches = np.stack([np.asarray(IMAGES)] * 5)
    batches[2, 0, 0, 0, 0] = np.nan
    labels = np.stack([LABELS] * 5)
    state, sums = updates()(jax.tree.map(jnp.copy, start()), no_totals(), (batches, labels), 5)
    assert int(sums.bad_step) == 3
    assert int(state.step) == 5


def test_batch_statistics_that_are_not_finite_stop_a_run_whose_losses_are():
    state = start().replace(step=jnp.asarray(7))
    stop_if_diverged(state, no_totals())
    state = state.replace(model_state={"batch_stats": {"var": jnp.array([1.0, jnp.inf])}})
    with pytest.raises(UserError, match="not finite at step 7"):
        stop_if_diverged(state, no_totals())


def test_a_call_makes_only_as_many_updates_as_asked():
    batches = (np.stack([IMAGES] * 5), np.stack([LABELS] * 5))
    state, sums = updates()(jax.tree.map(jnp.copy, start()), no_totals(), batches, 3)
    expected, _ = updated(steps=3)
    assert int(state.step) == 3
    assert float(sums.count) == 36
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, expected.params)


def test_errors_count_ties_and_nan_against_the_network():
    logits = jnp.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 6, [1.0] * 6, [np.nan] * 6])
    sums = totals(jnp.ones(4), logits, jnp.array([0, 0, 3, 2]), jnp.ones(4, bool))
    assert float(sums.errors) == 3  # the second is right: an arg-max takes the first of equals
    assert float(sums.top5_errors) == 2  # the first has five ahead of it
    assert int(sums.bad_step) == NEVER


SPECIAL = st.sampled_from([-np.inf, -1.0, 0.0, 1.0, np.inf, np.nan])


COMPILED_TOTALS, COMPILED_COUNTS = jax.jit(totals), jax.jit(class_counts)


@settings(deadline=None)
@given(arrays(np.float32, (6, 4), elements=SPECIAL), arrays(np.int32, 6, elements=st.integers(0, 3)))
def test_errors_are_those_of_an_arg_max_with_any_numbers(logits, labels):
    wrong = (logits.argmax(-1) != labels) | np.isnan(logits).any(-1)
    everyone = np.ones(6, bool)
    sums = COMPILED_TOTALS(np.ones(6, np.float32), logits, labels, everyone)
    assert float(sums.errors) == wrong.sum()
    counts = COMPILED_COUNTS(logits, labels, everyone)
    np.testing.assert_array_equal(counts[1], np.bincount(labels[wrong], minlength=4))


def test_padding_is_not_counted():
    variables = start().variables()
    step = jax.jit(functools.partial(eval_step, classifier=CLASSIFIER, transform=lambda x: x))
    whole, counts = step(variables, IMAGES, LABELS, jnp.ones(12, bool))
    padded = jnp.concatenate([IMAGES, jnp.full_like(IMAGES[:3], 9.0)])
    part, part_counts = step(variables, padded, jnp.pad(LABELS, (0, 3)), jnp.arange(15) < 12)
    assert float(part.count) == 12
    assert float(part.loss) == pytest.approx(float(whole.loss), rel=1e-5)
    assert float(part.errors) == float(whole.errors)
    np.testing.assert_array_equal(part_counts, counts)
    np.testing.assert_array_equal(counts.sum(1), [12, float(whole.errors)])
    np.testing.assert_array_equal(counts[0], np.bincount(LABELS, minlength=10))


def test_label_smoothing_is_the_papers_mixture():
    _, sums = updated(label_smoothing=0.1)
    logits = Net().apply(start().variables(), IMAGES)
    targets = 0.9 * np.eye(10)[np.asarray(LABELS)] + 0.01
    expected = -(targets * np.asarray(jax.nn.log_softmax(logits))).sum()
    assert float(sums.loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_cutmix_changes_the_loss_and_not_what_errors_are_counted_against():
    _, plain = updated()
    _, mixed = updated(cutmix_alpha=1.0)
    _, both = updated(cutmix_alpha=1.0, mixup_alpha=0.2)
    assert float(plain.count) == float(mixed.count) == float(both.count) == 12
    assert len({float(sums.loss) for sums in (plain, mixed, both)}) == 3
    assert all(np.isfinite(float(sums.loss)) for sums in (mixed, both))


WEIGHTS = np.linspace(0.5, 5, 10, dtype=np.float32)


def test_balanced_weights_are_scikit_learns():
    labels = np.repeat(np.array([3, 0, 5], np.int32), (50, 7, 1))
    found, expected = balanced_weights(labels, 7), compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    np.testing.assert_allclose(found[[0, 3, 5]], expected, rtol=1e-6)
    assert found[labels].mean() == pytest.approx(1)
    assert not found[[1, 2, 4, 6]].any()


@pytest.mark.parametrize("parts", [1, 3])
def test_class_weights_multiply_the_losses_of_their_examples(parts):
    # The loss is given class indices.
    before, (after, sums) = start(), updated(class_weights=WEIGHTS, accumulate=parts)

    def losses(params):
        return cross_entropy(Net().apply({"params": params}, IMAGES), LABELS) * WEIGHTS[np.asarray(LABELS)]

    gradient = jax.jit(jax.grad(lambda params: losses(params).mean()))(before.params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, expected)
    assert float(sums.loss) == pytest.approx(float(losses(before.params).sum()), rel=1e-5)


def test_class_weights_of_one_do_not_change_a_bit():
    plain, weighted = updated(steps=2)[0], updated(steps=2, class_weights=np.ones(10, np.float32))[0]
    jax.tree.map(np.testing.assert_array_equal, plain, weighted)


@pytest.mark.parametrize("blend", rest_slow([{"mixup_alpha": 1.0}, {"cutmix_alpha": 1.0}]))
def test_blended_images_have_the_weights_of_their_labels_in_the_labels_shares(blend):
    def inverse(outputs, targets):
        return 1 / (targets @ WEIGHTS) + 0 * outputs.sum(-1)

    fixed = FIXED | {"classifier": dataclasses.replace(CLASSIFIER, loss=inverse)}
    _, sums = jax.jit(functools.partial(train_step, **fixed, class_weights=WEIGHTS, **blend))(start(), IMAGES, LABELS)
    assert float(sums.loss) == pytest.approx(12, rel=1e-5)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_soft_labels_are_refused_where_the_loss_takes_indices_only(name):
    section = base(models.section("lenet", "lenet5"))
    section.augment[name] = 0.2
    hard = dataclasses.replace(CLASSIFIER, soft_labels=False)
    with pytest.raises(
        UserError, match=rf"augment\.{name} is 0\.2, but the loss of this variant of 'lenet' takes class"
    ):
        check_support(section, hard)
