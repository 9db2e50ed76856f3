"""The state of step 0 with the weights of a file, in little more memory than twice the file's size."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array
from ml_collections import ConfigDict

from common.devices import sharding
from common.models import Classifier
from common.pretrained import initial
from common.pretrained.named import flatten, unflatten
from common.training.state import TrainState, create_state, keys


def state_from_file(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    config: ConfigDict,
    mesh: Mesh,
    arrays: dict[str, np.ndarray],
    class_names: Sequence[str] = (),
) -> TrainState:
    """The state that `initial.start` makes of a fresh one, whose parameters are drawn only if some start untrained.

    arrays: of the file that `config.init` names; they are taken out of the dictionary. class_names: the dataset's.
    Raises the errors of `initial.start`.
    """
    averaged = config.optimizer.ema > 0

    def fresh() -> TrainState:
        return create_state(classifier, optimizer, config.seed, averaged)

    given = initial.given_weights(config, classifier, arrays)
    flat, changes = initial.initial_arrays(given, classifier, config, class_names)
    initial.print_changes(given, changes)
    del given
    arrays.clear()
    like = sharding.sharded_structs(jax.eval_shape(fresh), mesh)
    leaves = flatten({"params": like.params, **like.model_state})
    untrained = [name for name, array in flat.items() if not isinstance(array, np.ndarray)]

    def drawn() -> dict[str, Array]:  # the compiler leaves out what these do not need
        state = fresh()
        values = flatten({"params": state.params, **state.model_state})
        return {name: values[name] for name in untrained}

    leaves |= sharding.make_sharded(drawn, mesh) if untrained else {}
    variables = {name: initial.placed(flat.pop(name), leaf) for name, leaf in leaves.items()}
    tree = unflatten(variables)
    params = tree.pop("params")
    layout = sharding.shardings(like, mesh)
    _, run_key = keys(config.seed)
    return TrainState(
        step=jax.device_put(jnp.zeros((), jnp.int32), layout.step),
        params=params,
        model_state=tree,
        opt_state=jax.jit(optimizer.init, out_shardings=layout.opt_state)(params),
        ema=jax.tree.map(jnp.copy, {"params": params, **tree}) if averaged else None,
        key=jax.device_put(jax.random.key_data(run_key), layout.key),
    )
