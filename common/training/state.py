"""The state that changes during training, as one tree."""

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import PyTree

from common.models import Classifier


class TrainState(struct.PyTreeNode):
    """The contents of a checkpoint.

    step: updates made so far, int32. The order of the data depends on the config's seed and `step` only, augmentation
        and dropout on `key` or the seed and `step`, so a resumed run needs nothing else to go on where it stopped.
    params: the network's trainable parameters.
    model_state: its other variables by collection, such as `batch_stats`.
    opt_state: the optimizer's.
    ema: averages of `params` and `model_state`, as one tree, that evaluation uses instead; None without averaging.
    key: raw uint32 data of the run's random key.
    """

    # Leaves are arrays or, as the target of a restored checkpoint, shapes with shardings.
    step: PyTree
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    ema: PyTree
    key: PyTree

    def variables(self) -> PyTree:
        """The variables that evaluation applies the network to."""
        return {"params": self.params, **self.model_state} if self.ema is None else self.ema


def create_state(
    classifier: Classifier, optimizer: optax.GradientTransformation, seed: int, averaged: bool = False
) -> TrainState:
    """The state before the first update, its parameters drawn from `seed`; `averaged` adds the averages `ema`."""
    init_key, run_key = keys(seed)
    images = jnp.zeros((1, *classifier.input_shape), jnp.float32)
    variables = jax.jit(lambda key, images: classifier.module.init(key, images, train=False))(init_key, images)
    params = variables.pop("params")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=variables,
        opt_state=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, {"params": params, **variables}) if averaged else None,
        key=jax.random.key_data(run_key),
    )


def keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """Two random keys: one to draw a run's parameters, and one for its updates."""
    init_key, run_key = jax.random.split(jax.random.key(seed))
    return init_key, run_key


def num_parameters(params: PyTree) -> int:
    """The number of entries of all arrays in a tree (or of their shapes)."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
