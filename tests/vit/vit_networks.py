"""Small networks for the tests, with every parameter random."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from common import models
from tests import networks

IMAGE = (8, 12, 3)  # two rows of three patches


def section(variant="nano4", **changes):
    small = {"hidden_size": 16, "mlp_dim": 24, "num_heads": 2, "depth": 2}
    return models.section("vit", variant, **{**small, **changes})


def classifier(image=IMAGE, classes=5, **changes):
    return models.make_classifier(section(**changes), networks.facts(classes, image))


def module(**changes):
    return classifier(**changes).module


def shapes(network, image=IMAGE):
    """Shapes of the parameters. Not to be written to."""
    return networks.shapes(network, image)["params"]


def parameters(network, image=IMAGE, scale=0.3):
    """Normal values everywhere, in particular in the head, with scales of normalisations about 1."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _draw(path, leaf, scale), shapes(network, image))


def _draw(path, leaf, scale):
    name = jax.tree_util.keystr(path)
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(size=leaf.shape) * scale
    return jnp.asarray(values + 1 if "scale" in name else values, jnp.float32)


def images(count=2, image=IMAGE, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, *image)), jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def logits(network, params, batch):
    return network.apply({"params": params}, batch)
