"""Initial values from trained weights: those of a run, or of a published file (`config.init`).

Arrays are copied by name, and every one has to fit. A file may have our own names ('params/conv1/kernel'). The rest is
particular to a family and stands in its `weights.py`, which may have

    HEAD_BIAS: tuple[str, ...]                        names that published files give the last layer's bias
    from_published(arrays, module, like) -> variables the arrays of a published file, as variables of `module`
    to_published(variables, module) -> arrays or None the inverse; None for a network that nobody published
    fitted(given, like, new_head=..., network=..., given_network=..., **options) -> (variables, changes)

`like` are variables or their shapes. `fitted` turns the variables of one network into those of another, as far as the
family can (other depths, other grids of patches). It leaves a `jax.ShapeDtypeStruct` in the place of an array that
starts untrained, returns a sentence about each change, and raises UserError for networks that do not fit. `network` and
`given_network` are Classifiers, the second None for a file. The options are those of `models.init_options`.
"""

import pathlib
from collections.abc import Callable, Sequence
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
from common.run import trained
from common.training.state import TrainState

Flat = dict[str, Any]  # arrays, or their shapes, by name: 'params/conv1/kernel'


class Given(NamedTuple):
    """Trained variables (arrays by collection) and their origin in words; of a run its network and its class names."""

    variables: PyTree
    origin: str
    classifier: Classifier | None
    class_names: tuple[str, ...] = ()


def start(state: TrainState, classifier: Classifier, config: ConfigDict, class_names: Sequence[str] = ()) -> TrainState:
    """A fresh state with the weights that `config.init` names, or as it is where it names none.

    Parameters, batch statistics and their averages are replaced; the optimizer starts fresh. It prints the origin of
    the weights and every change. UserError for arrays that are missing, left over or of another shape, and for a head
    that was trained on other classes than `class_names`, the dataset's, even if they are as many.
    """
    if not config.init.checkpoint:
        return state
    given = given_weights(config, classifier)
    if not config.init.new_head and given.class_names and class_names:
        _check_names(given, class_names)
    flat, changes = initial_arrays(given, classifier, config)
    print("\n".join([f"weights from {given.origin}", *(f"  {change}" for change in changes)]))
    return _replace(state, flat)


def given_weights(config: ConfigDict, classifier: Classifier) -> Given:
    """The trained variables that `config.init.checkpoint` names; UserError where there are none."""
    path = pathlib.Path(config.init.checkpoint).expanduser()
    if path.is_dir():
        return _from_run(path, config.model.family)
    if not path.exists():
        raise UserError(
            f"config.init.checkpoint is '{path}', which does not exist; expected the workdir of a trained run, or a "
            "file of weights (.npz, .safetensors, .pth)"
        )
    return _from_file(path, config.model.family, classifier)


def initial_arrays(given: Given, classifier: Classifier, config: ConfigDict) -> tuple[Flat, list[str]]:
    """Every array of the network by name, and a sentence about each change; shapes stand for untrained arrays."""
    like = shapes(classifier.module, classifier)
    head = head_arrays(classifier)
    if not config.init.new_head:
        _check_classes(given, like, head)
    variables, changes = _fitted(given, like, classifier, config)
    flat = _flatten(variables)
    if config.init.new_head:
        flat |= {name: array for name, array in _flatten(like).items() if name in head}
        changes = [*changes, _new_head(given, like, head)]
    _check(flat, _flatten(like), given.origin)
    return flat, changes


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
    """Variables by the names of the family's published files, or by our own, and which: 'published' or 'our'."""
    rename = getattr(models.optional_module(family, "weights"), "to_published", None)
    arrays = rename(variables, module) if rename else None
    return (_flatten(variables), "our") if arrays is None else (arrays, "published")


def _from_run(folder: pathlib.Path, family: str) -> Given:
    run = trained.load(folder)
    if run.config.model.family != family:
        raise UserError(f"config.init.checkpoint {folder} is a '{run.config.model.family}' network, not '{family}'")
    origin = f"{folder} ({run.config.model.variant}) at step {run.step:,}"
    return Given(jax.tree.map(np.asarray, run.variables), origin, run.classifier, run.info.class_names)


def _from_file(path: pathlib.Path, family: str, classifier: Classifier) -> Given:
    weights, arrays = models.optional_module(family, "weights"), weight_files.read(path)
    ours = _flatten(shapes(classifier.module, classifier))
    if weights is None or not hasattr(weights, "from_published") or arrays.keys() == ours.keys():
        return Given(traverse_util.unflatten_dict(arrays, sep="/"), str(path), None)
    found = [arrays[name].size for name in weights.HEAD_BIAS if name in arrays and arrays[name].size]
    module = classifier.module.clone(num_classes=found[0]) if found else classifier.module
    return Given(weights.from_published(arrays, module, shapes(module, classifier)), str(path), None)


def _fitted(given: Given, like: PyTree, classifier: Classifier, config: ConfigDict) -> tuple[PyTree, list[str]]:
    """The given variables as the family fits them to the network; unchanged where it has no way to."""
    fit: Callable | None = getattr(models.optional_module(config.model.family, "weights"), "fitted", None)
    if fit is None:
        return given.variables, []
    options = {name: config.init[name] for name in models.init_options(config.model.family)}
    options = {name: value for name, value in options.items() if value}
    networks = {"network": classifier, "given_network": given.classifier}
    return fit(given.variables, like, new_head=config.init.new_head, **networks, **options)


def _check_names(given: Given, class_names: Sequence[str]) -> None:
    """UserError when the head tells as many classes apart, but others or in another order."""
    pairs = zip(given.class_names, class_names, strict=False)
    different = [(theirs, ours) for theirs, ours in pairs if theirs != ours]
    if different and len(given.class_names) == len(class_names):
        theirs, ours = different[0]
        raise UserError(
            f"{given.origin} was trained on other classes: '{theirs}' is '{ours}' in the dataset "
            f"({len(different)} of {len(class_names)} differ); set config.init.new_head=True to start with a new head"
        )


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
    """A sentence about the head, which starts untrained."""
    if not head:
        raise UserError("config.init.new_head is True, but no array of this network depends on the number of classes")
    theirs, ours = _flatten(given.variables), _flatten(like)
    classes = [f"{theirs[name].shape[-1]:,}" for name in head if name in theirs]
    names = ", ".join(sorted({name.removeprefix("params/").rpartition("/")[0] for name in head}))
    dropped = f"; the head for {classes[0]} classes is DROPPED" if classes else ""
    return f"NEW HEAD: '{names}' for {ours[head[0]].shape[-1]:,} classes starts untrained{dropped}"


def _check(flat: Flat, wanted: Flat, origin: str) -> None:
    """UserError unless the names are the wanted ones and every array, or shape of an untrained one, fits."""
    missing, extra = sorted(set(wanted) - set(flat)), sorted(set(flat) - set(wanted))
    if missing or extra:
        faults = [f"lacks {listed(missing)}"] * bool(missing) + [f"has {listed(extra)} besides"] * bool(extra)
        raise UserError(f"{origin} is another network: it {' and '.join(faults)}; choose its config.model.variant")
    for name, array in wanted.items():
        if flat[name].shape != array.shape:
            raise UserError(f"{origin} is another network: '{name}' is {flat[name].shape}, expected {array.shape}")


def _replace(state: TrainState, flat: Flat) -> TrainState:
    """The state with these arrays, laid out as its own; arrays that start untrained stay."""

    def put(tree: PyTree) -> PyTree:
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
