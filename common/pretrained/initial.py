"""Initial values from trained weights: those of a run, or of a published file (`config.init`).

Arrays are copied by name, and every one has to fit. A file may have our own names ('params/conv1/kernel'). The rest
depends on the family, whose `weights.py` may have

    HEAD_BIAS: tuple[str, ...]                        names that published files give the last layer's bias
    sources, mismatch                                 see `common.pretrained.sources`
    from_published(arrays, module, like) -> variables the arrays of a published file, as variables of `module`
    to_published(variables, module) -> arrays or None the inverse; None for a network that nobody published
    to_library(variables, module, library) -> arrays  the same under the names of a library's networks
    fitted(given, like, new_head=..., network=..., given_network=..., **options) -> (variables, changes)

`like` are variables or their shapes. `fitted` turns the variables of one network into those of another, as far as the
family can (other depths, other grids of patches). It leaves a `jax.ShapeDtypeStruct` in the place of an array that
starts untrained, returns a sentence about each change, and raises UserError for networks that do not fit. `network` and
`given_network` are Classifiers, the second None for a file. The options are those of `models.init_options`.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import PyTree
from ml_collections import ConfigDict

from common import models
from common.data import decode, imagenet_names
from common.devices import mesh
from common.errors import UserError, missing_and_extra
from common.files import user_path
from common.models import Classifier
from common.pretrained import heads, hugging_face, preprocessing, sources, weight_files
from common.pretrained.named import Flat, Given, flatten, is_untrained, shapes, unflatten, wrong_shape
from common.run import trained
from common.training.state import TrainState


def start(state: TrainState, classifier: Classifier, config: ConfigDict, class_names: Sequence[str] = ()) -> TrainState:
    """A fresh state with the weights that `config.init` names, or as it is where it names none.

    Parameters, batch statistics and their averages are replaced; the optimizer starts fresh. It prints the origin of
    the weights, every change, and whether images are prepared as the weights expect. Raises UserError for arrays that
    are missing, left over or of another shape, and for a head that was trained on other classes than `class_names`, the
    dataset's, even if they are as many, unless `config.init` asks for a new head or for its classes by name.
    """
    if not config.init.checkpoint:
        return state
    path = user_path(config.init.checkpoint)
    is_file = path.is_file() or hugging_face.is_folder(path)
    arrays = weight_files.read(hugging_face.file_of(path), config.init.entry) if is_file else None
    given = given_weights(config, classifier, arrays)
    flat, changes = initial_arrays(given, classifier, config, class_names)
    pixels = preprocessing.compared(config, arrays, classifier.input_shape[0]) if arrays is not None else ""
    print_changes(given, [*changes, *filter(None, [pixels])])
    return replace(state, flat)


def print_changes(given: Given, changes: Sequence[str]) -> None:
    """Prints the origin of the weights and every change."""
    print("\n".join([f"weights from {given.origin}", *(f"  {change}" for change in (*given.notes, *changes))]))


def given_weights(config: ConfigDict, classifier: Classifier, arrays: Mapping[str, np.ndarray] | None = None) -> Given:
    """The trained variables that `config.init.checkpoint` names. Raises UserError if there are none.

    arrays: those of the file, if it has been read already.
    """
    path = user_path(config.init.checkpoint)
    if path.is_dir() and not hugging_face.is_folder(path):
        if config.init.entry:
            raise UserError(f"config.init.entry is '{config.init.entry}', but {path} is a run, not a file")
        return _from_run(path, config)
    if not path.exists():
        raise UserError(
            f"config.init.checkpoint is '{path}', which does not exist; expected the workdir of a trained run, or a "
            f"file of weights (.npz, .safetensors, .pth){decode.similar_name(path)}"
        )
    if arrays is None:
        arrays = weight_files.read(hugging_face.file_of(path), config.init.entry)
    return _from_file(path, arrays, config.init.source, config.model.family, classifier)


def initial_arrays(
    given: Given, classifier: Classifier, config: ConfigDict, class_names: Sequence[str] = ()
) -> tuple[Flat, list[str]]:
    """Every array of the network by name, and a sentence about each change; shapes stand for untrained arrays.

    class_names: the dataset's, by which `config.init.match_classes` finds the classes in the given head; such arrays
    are `heads.Matched`. Without it, the head's own names have to agree with them.
    """
    like = shapes(classifier.module, classifier)
    head = heads.arrays(classifier)
    if imagenet_names.same(given.class_names, class_names):
        given = given._replace(class_names=tuple(class_names))
    heads.check_axes(given, like, head)
    places = heads.match(given, class_names, head) if config.init.match_classes else None
    if places is not None:
        given = given._replace(variables=heads.with_classes(given, places, classifier, flatten(like)))
    elif not config.init.new_head:
        heads.check_classes(given, like, head)
        heads.check_names(given, class_names)
    variables, changes = _fitted(given, like, classifier, config)
    flat = flatten(variables)
    if config.init.new_head:
        flat |= {name: array for name, array in flatten(like).items() if name in head}
        changes = [*changes, heads.about_new(given, like, head)]
    if places is not None:
        for name in (name for name in head if name in flat and not is_untrained(flat[name])):
            flat[name] = heads.Matched(np.asarray(flat[name]), places >= 0, head[name])
        changes = [*changes, heads.about_matched(given, class_names, places)]
    _check(flat, flatten(like), given.origin)
    return flat, changes


def published(family: str, variables: PyTree, module: nn.Module) -> tuple[dict[str, np.ndarray], str]:
    """Variables by the names of the family's published files, or by our own, and which: 'published' or 'our'."""
    rename = getattr(models.optional_module(family, "weights"), "to_published", None)
    arrays = rename(variables, module) if rename else None
    return (flatten(variables), "our") if arrays is None else (arrays, "published")


def _from_run(folder: pathlib.Path, config: ConfigDict) -> Given:
    run, family = trained.load(folder), config.model.family
    if run.config.model.family != family:
        raise UserError(f"config.init.checkpoint {folder} is a '{run.config.model.family}' network, not '{family}'")
    origin = f"{folder} ({run.config.model.variant}) at step {run.step:,}"
    said = preprocessing.of_run(config.data, run.config, folder)
    return Given(jax.tree.map(np.asarray, run.variables), origin, run.classifier, run.info.class_names, (said,))


def _from_file(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray], source: str, family: str, classifier: Classifier
) -> Given:
    weights = models.optional_module(family, "weights")
    notes = tuple(hugging_face.notes(path))
    ours = flatten(shapes(classifier.module, classifier))
    if weights is None or not hasattr(weights, "from_published") or arrays.keys() == ours.keys():
        return Given(unflatten(arrays), str(path), None)
    found = [arrays[name].size for name in weights.HEAD_BIAS if name in arrays and arrays[name].size]
    module = classifier.module.clone(num_classes=found[0]) if found else classifier.module
    variables = weights.from_published(arrays, module, shapes(module, classifier))
    sources.check(weights, arrays, classifier.module, source, path)  # no array shows these
    names = hugging_face.classes(path)
    return Given(variables, str(path), None, names if [len(names)] == found[:1] else (), notes)


def _fitted(given: Given, like: PyTree, classifier: Classifier, config: ConfigDict) -> tuple[PyTree, list[str]]:
    """The given variables as the family fits them to the network; unchanged where it has no way to."""
    fit: Callable | None = getattr(models.optional_module(config.model.family, "weights"), "fitted", None)
    if fit is None:
        return given.variables, []
    options = {name: config.init[name] for name in models.init_options(config.model.family)}
    options = {name: value for name, value in options.items() if value}
    networks = {"network": classifier, "given_network": given.classifier}
    return fit(given.variables, like, new_head=config.init.new_head, **networks, **options)


def _check(flat: Flat, wanted: Flat, origin: str) -> None:
    """Raises UserError unless the names are the wanted ones and every array, or shape of an untrained one, fits."""
    missing, extra = sorted(set(wanted) - set(flat)), sorted(set(flat) - set(wanted))
    if missing or extra:
        raise UserError(
            f"{origin} is another network: it {missing_and_extra(missing, extra)}; choose its config.model.variant"
        )
    for name, array in wanted.items():
        if flat[name].shape != array.shape:
            raise UserError(wrong_shape(origin, name, flat[name], array))


def replace(state: TrainState, flat: Flat) -> TrainState:
    """The state with these arrays, laid out as its own; arrays that start untrained stay."""

    def put(tree: PyTree) -> PyTree:
        return unflatten({name: placed(flat[name], leaf) for name, leaf in flatten(tree).items()})

    variables = put({"params": state.params, **state.model_state})
    params = variables.pop("params")
    return state.replace(params=params, model_state=variables, ema=None if state.ema is None else put(state.ema))


def placed(array: Any, leaf: Any) -> jax.Array:
    """An array of `initial_arrays` with the type and the layout of `leaf`, which an untrained one leaves as it is."""
    if is_untrained(array):
        return leaf
    if isinstance(array, heads.Matched):
        known = np.expand_dims(array.known, [axis for axis in range(leaf.ndim) if axis != array.axis])
        return jnp.where(known, mesh.place(np.array(array.values, leaf.dtype), leaf.sharding), leaf)
    return mesh.place(np.asarray(array, leaf.dtype), leaf.sharding)
