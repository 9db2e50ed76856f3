"""Skeleton's facts and properties, on small images."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import config_checks, models
from common.anatomy import layer_table, networks
from common.errors import UserError
from tests.networks import classifier, drawn


def test_every_layer_and_the_total():
    paper = models.family_module("skeleton", "paper")
    rows = networks.rows("skeleton", "small", side=16, classes=10, channels=1)
    for name, facts in paper.LAYERS["small"].items():
        assert {"output_shape": rows[name].output_shape, "parameters": rows[name].parameters} == facts
    assert rows[""].parameters == paper.TOTALS["small"]["parameters"]


def test_every_parameter_has_a_gradient_and_images_do_not_mix():
    of = classifier("skeleton", "small", image=(8, 8, 1))
    variables = drawn(layer_table.variable_shapes(of.module, of.input_shape))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 1)), jnp.float32)
    labels = jnp.arange(4)

    @jax.jit
    def gradients(params, images):
        """Gradients of the first image's loss, with respect to the parameters and to all images."""
        return jax.grad(lambda p, x: of.loss(of.module.apply({"params": p}, x), labels)[0], (0, 1))(params, images)

    of_params, of_images = gradients(variables["params"], images)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(of_params))
    assert np.any(of_images[0])
    assert not np.any(of_images[1:])


def test_the_config_is_valid_and_small_images_are_refused():
    config = importlib.import_module("configs.skeleton_digits").get_config()
    config_checks.validate(config)
    with pytest.raises(UserError, match="takes images of 4x4 pixels or more"):
        classifier("skeleton", config.model.variant, image=(3, 3, 1))
    with pytest.raises(UserError, match="takes images of 32x32 pixels or more"):
        classifier("skeleton", config.model.variant, image=(9, 9, 1), widths=(4,) * 5)
