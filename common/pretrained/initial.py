"""Starting from trained weights: those of a run, or of a published file (`config.init`).

Arrays are copied by name, and have to fit one by one. A file may have our own names ('params/conv1/kernel'). What else
is particular to a family is in its `weights.py`, which may have

    HEAD_BIAS: tuple[str, ...]                        names that published files give the last layer's bias
    from_published(arrays, module, like) -> variables the arrays of a published file, as variables of `module`
    to_published(variables, module) -> arrays or None the inverse; None for a network that nobody published
    fitted(given, like, new_head=..., network=..., given_network=..., [old_grid=...]) -> (variables, changes)

`like` are variables or their shapes. `fitted` makes the variables of one network those of another, as far as the
family knows how (other depths, other grids of patches): an array that is left as a `jax.ShapeDtypeStruct` starts anew,
`changes` says in a sentence each what was done, and a UserError what cannot be. `network` and `given_network` are
Classifiers, the second None for a file. A `fitted` without the argument `old_grid` leaves no use for that option.
"""

import importlib.util
import inspect
import pathlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jaxtyping import PyTree
from ml_collections import ConfigDict

from common import models
from common.devices import mesh
from common.errors import UserError, listed
from common.models import Classifier
from common.pretrained import weight_files
from common.training.state import TrainState

Flat = dict[str, Any]  # arrays, or their shapes, by name: 'params/conv1/kernel'


class Given(NamedTuple):
    """Trained variables (arrays by collection), in words where they are from, and the network if it was a run's."""

    variables: PyTree
    origin: str
    classifier: Classifier | None


def start(state: TrainState, classifier: Classifier, config: ConfigDict) -> TrainState:
    """A fresh state with the weights that `config.init` names, which are printed; as it is where it names none.

    Parameters, batch statistics and their averages are replaced; the optimizer starts fresh. UserError for what is
    missing, left over or of another shape.
    """
    section = config.init
    if not section.checkpoint:
        return state
    given = _given(config, classifier)
    like = shapes(classifier.module, classifier)
    head = head_arrays(classifier)
    if not section.new_head:
        _check_classes(given, like, head)
    variables, changes = _fitted(given, like, classifier, config)
    flat = _flatten(variables)
    if section.new_head:
        flat |= {name: array for name, array in _flatten(like).items() if name in head}
        changes = [*changes, _new_head(given, like, head)]
    _check(flat, _flatten(like), given.origin)
    print("\n".join([f"weights from {given.origin}", *(f"  {change}" for change in changes)]))
    return _replace(state, flat)


def shapes(module: nn.Module, classifier: Classifier) -> PyTree:
    """The shapes of a module's variables on the classifier's images."""
    images = jax.ShapeDtypeStruct((1, *classifier.input_shape), jnp.float32)
    return jax.eval_shape(lambda key, images: module.init(key, images, train=False), jax.random.key(0), images)


def head_arrays(classifier: Classifier) -> list[str]:
    """Names of the arrays whose shapes depend on the number of classes: the classification head, or heads."""
    more = classifier.module.clone(num_classes=classifier.num_classes + 1)
    ours, theirs = (_flatten(shapes(module, classifier)) for module in (classifier.module, more))
    return [name for name in ours if ours[name].shape != theirs[name].shape]


def published(family: str, variables: PyTree, module: nn.Module) -> tuple[dict[str, np.ndarray], str]:
    """Variables under the names of the family's published files, or under our own; and which of these they are."""
    rename = getattr(_weights(family), "to_published", None)
    arrays = rename(variables, module) if rename else None
    return (_flatten(variables), "our") if arrays is None else (arrays, "published")


def _given(config: ConfigDict, classifier: Classifier) -> Given:
    path = pathlib.Path(config.init.checkpoint).expanduser()
    if path.is_dir():
        return _from_run(path, config.model.family)
    if not path.exists():
        raise UserError(
            f"config.init.checkpoint is '{path}', which does not exist; expected the workdir of a trained run, or a "
            "file of weights (.npz, .safetensors, .pth)"
        )
    return _from_file(path, config.model.family, classifier)


def _from_run(folder: pathlib.Path, family: str) -> Given:
    from common.run import trained  # it imports the loop, which imports this module

    run = trained.load(folder)
    if run.config.model.family != family:
        raise UserError(f"config.init.checkpoint {folder} is a '{run.config.model.family}' network, not '{family}'")
    origin = f"{folder} ({run.config.model.variant}) at step {run.step:,}"
    return Given(jax.tree.map(np.asarray, run.variables), origin, run.classifier)


def _from_file(path: pathlib.Path, family: str, classifier: Classifier) -> Given:
    weights, arrays = _weights(family), weight_files.read(path)
    ours = _flatten(shapes(classifier.module, classifier))
    if not hasattr(weights, "from_published") or arrays.keys() == ours.keys():
        return Given(traverse_util.unflatten_dict(arrays, sep="/"), str(path), None)
    found = [len(arrays[name]) for name in weights.HEAD_BIAS if name in arrays]
    module = classifier.module.clone(num_classes=found[0]) if found else classifier.module
    return Given(weights.from_published(arrays, module, shapes(module, classifier)), str(path), None)


def _weights(family: str) -> ModuleType | None:
    if importlib.util.find_spec(f"{family}.weights") is None:
        return None
    return models.family_module(family, "weights")


def _fitted(given: Given, like: PyTree, classifier: Classifier, config: ConfigDict) -> tuple[PyTree, list[str]]:
    """What the family makes of the given variables; they themselves if it knows nothing to do."""
    fit: Callable | None = getattr(_weights(config.model.family), "fitted", None)
    options: dict[str, Any] = {}
    if config.init.old_grid:
        if fit is None or "old_grid" not in inspect.signature(fit).parameters:
            raise UserError(f"config.init.old_grid is set, but '{config.model.family}' has no position embeddings")
        options["old_grid"] = tuple(config.init.old_grid)
    if fit is None:
        return given.variables, []
    networks = {"network": classifier, "given_network": given.classifier}
    return fit(given.variables, like, new_head=config.init.new_head, **networks, **options)


def _check_classes(given: Given, like: PyTree, head: list[str]) -> None:
    """UserError when the head is for another number of classes."""
    theirs, ours = _flatten(given.variables), _flatten(like)
    for name in head:
        if name in theirs and theirs[name].shape[-1] != ours[name].shape[-1]:
            raise UserError(
                f"{given.origin} tells {theirs[name].shape[-1]:,} classes apart and the dataset has "
                f"{ours[name].shape[-1]:,}: set config.init.new_head=True to start with a new head"
            )


def _new_head(given: Given, like: PyTree, head: list[str]) -> str:
    """What to say when the head starts anew."""
    if not head:
        raise UserError("config.init.new_head is True, but no array of this network depends on the number of classes")
    theirs, ours = _flatten(given.variables), _flatten(like)
    classes = [f"{theirs[name].shape[-1]:,}" for name in head if name in theirs]
    names = ", ".join(sorted({name.removeprefix("params/").rpartition("/")[0] for name in head}))
    dropped = f"; what was learnt of {classes[0]} classes is DROPPED" if classes else ""
    return f"NEW HEAD: '{names}' for {ours[head[0]].shape[-1]:,} classes starts untrained{dropped}"


def _check(flat: Flat, wanted: Flat, origin: str) -> None:
    """UserError unless there is an array of the right shape, or a shape that starts anew, for each that is wanted."""
    missing, extra = sorted(set(wanted) - set(flat)), sorted(set(flat) - set(wanted))
    if missing or extra:
        faults = [f"lacks {listed(missing)}"] * bool(missing) + [f"has {listed(extra)} besides"] * bool(extra)
        raise UserError(f"{origin} is another network: it {' and '.join(faults)}; choose its config.model.variant")
    for name, array in wanted.items():
        if flat[name].shape != array.shape:
            raise UserError(f"{origin} is another network: '{name}' is {flat[name].shape}, expected {array.shape}")


def _replace(state: TrainState, flat: Flat) -> TrainState:
    """The state with these arrays, laid out as its own are."""

    def put(tree: PyTree) -> PyTree:
        """Arrays that start anew stay."""
        mine = traverse_util.flatten_dict(tree, sep="/")
        return traverse_util.unflatten_dict({name: _placed(flat[name], leaf) for name, leaf in mine.items()}, sep="/")

    variables = put({"params": state.params, **state.model_state})
    params = variables.pop("params")
    return state.replace(params=params, model_state=variables, ema=None if state.ema is None else put(state.ema))


def _placed(array: Any, leaf: jax.Array) -> jax.Array:
    if isinstance(array, jax.ShapeDtypeStruct):
        return leaf
    return mesh.place(np.array(array, leaf.dtype), leaf.sharding)


def _flatten(tree: PyTree) -> Flat:
    return traverse_util.flatten_dict(tree, sep="/")
