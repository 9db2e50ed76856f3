"""Random values for whole trees of variables, drawn with NumPy: compiling an initialisation takes seconds."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np

from common import models
from common.anatomy import layer_table
from common.training.state import create_state


def facts(classes=10, image=(32, 32, 3), class_names=()):
    """The facts of a dataset that a network asks for."""
    return types.SimpleNamespace(num_classes=classes, class_names=class_names, image_shape=image)


def classifier(family, variant, classes=10, image=(32, 32, 3), **fields):
    return models.make_classifier(models.section(family, variant, **fields), facts(classes, image))


@functools.cache
def shapes(module, image=(32, 32, 3)):
    """The shapes of all variables of a network, traced once in a process. Not to be written to."""
    return layer_table.variable_shapes(module, image)


def drawn(shapes, seed=0, scale=0.1):
    """Arrays of these shapes: floats are normal, other numbers zero, and variances positive."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        values = rng.normal(0, scale, leaf.shape)
        positive = jax.tree_util.keystr(path[-1:], simple=True) == "var"
        return jnp.asarray(np.abs(values) + 0.5 if positive else values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def state_shapes(of, optimizer, seed=0, averaged=False):
    """The shapes of what `create_state` returns."""
    return jax.eval_shape(functools.partial(create_state, of, optimizer, seed, averaged))


def state(of, optimizer, seed=0, averaged=False):
    """As `create_state`, with values that no initialisation has drawn."""
    return drawn(state_shapes(of, optimizer, seed, averaged), seed)
