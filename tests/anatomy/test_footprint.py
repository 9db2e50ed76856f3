"""The memory of activations, counted by hand on small networks and compared on large ones."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from common.anatomy.footprint import activation_bytes, memory
from common.errors import UserError
from common.models import Classifier
from tests import networks


def footprint(module, loss, batch_size=10, shape=(2, 2, 1)):
    classifier = Classifier(module, loss, lambda outputs: outputs, shape, 3)
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return activation_bytes(classifier, variables["params"], {}, batch_size)


class Squares(nn.Module):
    """Two dense layers with a square between them."""

    remat: bool = False

    @nn.compact
    def __call__(self, images, train=False):
        layer = nn.remat(SquareLayer) if self.remat else SquareLayer
        return nn.Dense(3, use_bias=False)(layer()(images.reshape(len(images), -1)))


class SquareLayer(nn.Module):
    """A dense layer of 7 squared units."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(7, use_bias=False)(x) ** 2


class Unflattened(nn.Module):
    """Classes for each pixel."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(3)(images)


def total(outputs, labels):
    return outputs.sum(-1)


def test_a_square_keeps_its_input_and_a_product_what_it_multiplies():
    # 4 inputs, 7 sums (twice their value is the derivative of the square) and 7 squares, each of 4 bytes.
    assert footprint(Squares(), total) == 10 * 4 * (4 + 7 + 7)


def test_a_network_that_does_not_flatten_its_maps_is_refused_with_the_shape_of_its_logits():
    with pytest.raises(UserError, match=r"logits have shape \(10, 2, 2, 3\); expected \(10, 3\), the batch and the"):
        footprint(Unflattened(), total)


def test_activations_grow_with_the_batch():
    assert footprint(Squares(), total, 40) == 4 * footprint(Squares(), total, 10)


def test_rematerialised_layers_keep_their_inputs_only():
    # The layer's 4 inputs, and the 7 squares that the last product multiplies.
    assert footprint(Squares(remat=True), total) == 10 * 4 * (4 + 7)


class Two(nn.Module):
    """Batch normalisation and two dense layers with a tanh between them."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.BatchNorm(use_running_average=True)(images.reshape(len(images), -1))
        return nn.Dense(5)(jnp.tanh(nn.Dense(20)(x)))


def test_memory_counts_parameters_statistics_and_what_each_image_keeps():
    found = memory(Classifier(Two(), total, lambda outputs: outputs, (2, 2, 3), 5))
    assert found.parameters == 4 * (2 * 12 + 12 * 20 + 20 + 20 * 5 + 5)
    assert found.state == 4 * 2 * 12
    # For scale and bias, the centred image; for the weights, each layer's input; for tanh, 1 - tanh^2 or the like.
    at_least = 4 * (12 + 12 + 20)
    assert at_least <= found.activations <= 4 * (12 + 12 + 3 * 20)


def test_inspect_and_the_opening_lines_of_a_run_agree():
    classifier = networks.classifier("resnet", "resnet20", stage_sizes=(1, 1))
    variables = jax.eval_shape(classifier.module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    batch = activation_bytes(classifier, variables.pop("params"), variables, 256)
    # Apart from what one batch keeps whatever its size: the batch statistics of a few hundred channels.
    assert 0 <= batch - 256 * memory(classifier).activations < 0.001 * batch


@pytest.mark.parametrize(
    "fields", [{"batch_groups": 3}, {"ghost_batches": 6}, {"batch_groups": 2, "ghost_batches": 150}]
)
def test_groups_of_batch_normalisation_need_not_divide_a_power_of_two(fields):
    def of(**fields):
        return memory(networks.classifier("resnet", "resnet20", stage_sizes=(1, 1), width=4, **fields))

    whole, grouped = of(), of(**fields)
    assert grouped[:2] == whole[:2]
    assert grouped.activations == pytest.approx(whole.activations, rel=0.02)  # some statistics for each group


@pytest.mark.slow  # tests/claims/test_facts.py traces as large a network
def test_resnet_152_at_batch_256_fits_a_gpu_of_40_gb_only_when_rematerialised():
    def gigabytes(**changes):
        classifier = networks.classifier("resnet", "resnet152", 1000, (224, 224, 3), **changes)
        variables = jax.eval_shape(classifier.module.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
        return activation_bytes(classifier, variables.pop("params"), variables, 256) / 1e9

    assert 61 < gigabytes() < 62
    assert gigabytes(remat=True) < 20
