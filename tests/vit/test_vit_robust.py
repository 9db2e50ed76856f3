"""A user's mistakes with a Vision Transformer are answered in one line."""

import functools

import jax
import optax
import pytest
from vit_networks import IMAGE, classifier, section

from common import config as config_lib
from common.claims import verdicts
from common.errors import UserError
from common.optim import optimizers
from common.training import steps
from common.training.state import create_state
from common.training.totals import no_totals, stop_if_diverged
from tests import networks
from vit import claims


def updates(rate, count, **changes):
    """State and totals after `count` updates of a small network on one batch."""
    config = config_lib.base(section())
    config.update_from_flattened_dict({"optimizer.name": "sgd", **changes})
    network = classifier(dtype="float32", depth=1)
    optimizer = optimizers.make_chain(config.optimizer, lambda step: rate, plateau=False)
    fixed = {"classifier": network, "optimizer": optimizer, "transform": lambda key, images: images}
    step = functools.partial(steps.train_step, **fixed, **steps.step_options(config))
    images = jax.random.normal(jax.random.key(1), (8, *IMAGE))
    labels = jax.random.randint(jax.random.key(2), (8,), 0, 5)
    state, step, sums = create_state(network, optimizer, config.seed), jax.jit(step), no_totals()
    for _ in range(count):
        state, new = step(state, images, labels)
        sums += new
    return state, sums


@pytest.mark.slow  # tests/test_mistakes.py has a LeNet that diverges
def test_a_learning_rate_that_is_too_high_stops_the_run_and_names_the_step():
    state, sums = updates(1e30, 4)
    assert 1 <= int(sums.bad_step) <= 4
    with pytest.raises(UserError, match=r"not finite at step \d: training has diverged; .*Lower config.schedule"):
        stop_if_diverged(state, sums)
    stop_if_diverged(networks.state(classifier(), optax.sgd(0.1)), no_totals())


@pytest.mark.slow  # as cutmix in tests/training/test_steps.py
def test_mixup_changes_the_loss_and_not_what_errors_are_counted_against():
    after, plain = updates(0.1, 1)
    blended, mixed = updates(0.1, 1, **{"augment.mixup": 1.0})
    assert float(plain.count) == float(mixed.count) == 8
    # The head starts at zero: all logits are equal, the loss is ln 5 for any labels, and the first class is predicted.
    assert float(mixed.loss) == pytest.approx(float(plain.loss), rel=1e-5)
    assert float(mixed.errors) == float(plain.errors)
    assert not (after.params["head"]["bias"] == blended.params["head"]["bias"]).all()


def verdict(claim_id, **means):
    """The verdict on three seeds, a thousandth apart."""
    (claim,) = (claim for claim in claims.CLAIMS if claim.id == claim_id)
    errors = {name.replace("_20", "-20"): [mean - 0.001, mean, mean + 0.001] for name, mean in means.items()}
    return verdicts.combine([found.verdict for found in verdicts.judge(claim.rules, errors, {})])


def test_the_claims_are_decided_by_both_sides():
    small_data = "vit-small-data-convolution-wins"
    assert verdict(small_data, ViT=0.25, ResNet_20=0.1) == "holds"
    assert verdict(small_data, ViT=0.05, ResNet_20=0.1) == "does not hold"
    positions = "vit-posemb-ablation"
    assert verdict(positions, none=0.4, learned=0.3, learned_2d=0.305, sincos2d=0.3) == "holds"
    assert verdict(positions, none=0.4, learned=0.3, learned_2d=0.35, sincos2d=0.3) == "does not hold"
    assert verdict(positions, none=0.2, learned=0.3, learned_2d=0.3, sincos2d=0.3) == "does not hold"
