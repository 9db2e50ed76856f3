"""Update and evaluation steps: sums, accumulation, averaging, divergence."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from common import models, train
from common.config import base
from common.errors import UserError
from common.models import Classifier
from common.nn.losses import cross_entropy
from common.training.state import create_state
from common.training.steps import NEVER, eval_step, make_train_call, no_totals, totals, train_step


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


def config(**train):
    result = base(models.section("lenet", "lenet5"))
    result.train.update(train)
    return result


def updated(settings, images=IMAGES, steps=1):
    state = create_state(CLASSIFIER, OPTIMIZER, settings)
    step = functools.partial(
        train_step, classifier=CLASSIFIER, optimizer=OPTIMIZER, transform=lambda key, x: x, config=settings
    )
    for _ in range(steps):
        state, sums = jax.jit(step)(state, images, LABELS)
    return state, sums


def test_one_update_is_gradient_descent_on_the_mean_loss():
    settings = config()
    before = create_state(CLASSIFIER, OPTIMIZER, settings)
    after, sums = updated(settings)

    def loss(params):
        return cross_entropy(Net().apply({"params": params}, IMAGES), LABELS).mean()

    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, jax.grad(loss)(before.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, expected)
    assert float(sums.loss) / 12 == pytest.approx(float(loss(before.params)), rel=1e-5)
    assert int(after.step) == 1


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_accumulation_gives_the_same_update(parts):
    whole, whole_sums = updated(config())
    split, split_sums = updated(config(accumulate=parts))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), split.params, whole.params)
    assert float(split_sums.loss) == pytest.approx(float(whole_sums.loss), rel=1e-5)
    assert float(split_sums.count) == 12


def test_averaged_parameters_follow_with_their_keep_factor():
    settings = config()
    settings.optimizer.ema = 0.9
    start = create_state(CLASSIFIER, OPTIMIZER, settings)
    after, _ = updated(settings)
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, start.params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.variables()["params"], expected)


def test_averaged_parameters_come_with_averaged_batch_statistics():
    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            return nn.Dense(10)(nn.BatchNorm(not train, momentum=0.5)(images.reshape(len(images), -1)))

    settings = config()
    settings.optimizer.ema = 0.9
    classifier = dataclasses.replace(CLASSIFIER, module=Normalised())
    before = create_state(classifier, OPTIMIZER, settings)
    after, _ = train_step(
        before, IMAGES, LABELS, classifier=classifier, optimizer=OPTIMIZER, transform=lambda key, x: x, config=settings
    )
    old, new = before.model_state["batch_stats"], after.model_state["batch_stats"]
    expected = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, old, new)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.variables()["batch_stats"], expected)


def test_the_first_update_with_a_bad_loss_is_named():
    def step(state, images, labels):
        return train_step(
            state, images, labels, classifier=CLASSIFIER, optimizer=OPTIMIZER, transform=lambda k, x: x, config=config()
        )

    batches = np.stack([np.asarray(IMAGES)] * 5)
    batches[2, 0, 0, 0, 0] = np.nan
    labels = np.stack([LABELS] * 5)
    call = make_train_call(step, lambda batches, i: (batches[0][i], batches[1][i]))
    state, sums = call(create_state(CLASSIFIER, OPTIMIZER, config()), no_totals(), (batches, labels), 5)
    assert int(sums.bad_step) == 3
    assert int(state.step) == 5


def test_batch_statistics_that_are_not_finite_stop_a_run_whose_losses_are():
    state = create_state(CLASSIFIER, OPTIMIZER, config()).replace(step=jnp.asarray(7))
    train.stop_if_diverged(state, no_totals())
    state = state.replace(model_state={"batch_stats": {"var": jnp.array([1.0, jnp.inf])}})
    with pytest.raises(UserError, match="not finite at step 7"):
        train.stop_if_diverged(state, no_totals())


def test_a_call_makes_only_as_many_updates_as_asked():
    step = functools.partial(
        train_step, classifier=CLASSIFIER, optimizer=OPTIMIZER, transform=lambda key, x: x, config=config()
    )
    call = make_train_call(step, lambda batches, i: (batches[0][i], batches[1][i]))
    batches = (np.stack([IMAGES] * 4), np.stack([LABELS] * 4))
    state, sums = call(create_state(CLASSIFIER, OPTIMIZER, config()), no_totals(), batches, 3)
    expected, _ = updated(config(), steps=3)
    assert int(state.step) == 3
    assert float(sums.count) == 36
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, expected.params)


def test_errors_count_ties_and_nan_against_the_network():
    logits = jnp.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 6, [1.0] * 6, [np.nan] * 6])
    sums = totals(jnp.ones(4), logits, jnp.array([0, 0, 3, 2]), jnp.ones(4, bool))
    assert float(sums.errors) == 3  # the second is right: an arg-max takes the first of equals
    assert float(sums.top5_errors) == 2  # the first has five ahead of it
    assert int(sums.bad_step) == NEVER


def test_padding_is_not_counted():
    variables = create_state(CLASSIFIER, OPTIMIZER, config()).variables()
    step = functools.partial(eval_step, classifier=CLASSIFIER, transform=lambda x: x)
    whole = step(variables, IMAGES, LABELS, jnp.ones(12, bool))
    padded = jnp.concatenate([IMAGES, jnp.full_like(IMAGES[:3], 9.0)])
    part = step(variables, padded, jnp.pad(LABELS, (0, 3)), jnp.arange(15) < 12)
    assert float(part.count) == 12
    assert float(part.loss) == pytest.approx(float(whole.loss), rel=1e-5)
    assert float(part.errors) == float(whole.errors)


def test_label_smoothing_is_the_papers_mixture():
    _, sums = updated(config(label_smoothing=0.1))
    logits = Net().apply(create_state(CLASSIFIER, OPTIMIZER, config()).variables(), IMAGES)
    targets = 0.9 * np.eye(10)[np.asarray(LABELS)] + 0.01
    expected = -(targets * np.asarray(jax.nn.log_softmax(logits))).sum()
    assert float(sums.loss) == pytest.approx(expected, rel=1e-5)
