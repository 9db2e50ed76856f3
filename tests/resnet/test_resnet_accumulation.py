"""Gradient accumulation with batch normalisation: exactly an update of ghost batches, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.models import Classifier
from common.nn.layers import identity
from common.training.state import create_state
from common.training.steps import train_step
from resnet.model import ResNet
from tests import networks
from tests.slow import rest_slow

SMALL = {"num_classes": 10, "stage_sizes": (1,), "block": "basic", "width": 4, "stem": "cifar", "shortcut": "A"}
OPTIMIZER = optax.sgd(0.5, momentum=0.9)


@functools.cache
def updated(accumulate=1, **fields):
    """Parameters and batch statistics after two updates on one batch of 16 images."""
    with jax.enable_x64(True):
        module = ResNet(**SMALL, **fields, dtype="float64")
        classifier = Classifier(module, optax.softmax_cross_entropy_with_integer_labels, identity, (8, 8, 3), 10)
        state = networks.drawn(jax.eval_shape(lambda: create_state(classifier, OPTIMIZER, seed=0)), scale=0.5)
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (state.params, state.model_state, state.opt_state))
        state = state.replace(params=wide[0], model_state=wide[1], opt_state=wide[2])
        options = {"transform": lambda key, images: images, "accumulate": accumulate}
        step = jax.jit(functools.partial(train_step, classifier=classifier, optimizer=OPTIMIZER, **options))
        images, labels = jax.random.normal(jax.random.key(1), (16, 8, 8, 3), jnp.float64), jnp.arange(16) % 10
        for _ in range(2):
            state, _ = step(state, images, labels)
        return {"params": state.params, **state.model_state}


@pytest.mark.parametrize(
    ("accumulated", "whole"),
    rest_slow(
        [
            ({"accumulate": 4}, {"ghost_batches": 4}),
            ({"accumulate": 2, "ghost_batches": 2}, {"ghost_batches": 4}),
            ({"accumulate": 2, "batch_groups": 2}, {"ghost_batches": 2, "batch_groups": 2}),
        ]
    ),
)
def test_accumulated_parts_are_ghost_batches(accumulated, whole):
    ours, expected = updated(**accumulated), updated(**whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), ours, expected)


def test_statistics_of_the_whole_batch_need_a_single_part():
    one, four = (updated(accumulate=parts)["params"]["conv1"]["kernel"] for parts in (1, 4))
    assert np.abs(one - four).max() > 1e-3
