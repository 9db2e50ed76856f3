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

import collections
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Bool, Int, PyTree
from ml_collections import ConfigDict

from common import models
from common.data import decode, imagenet_names
from common.devices import mesh
from common.errors import UserError, listed, missing_and_extra
from common.files import user_path
from common.models import Classifier
from common.pretrained import hugging_face, preprocessing, sources, weight_files
from common.run import trained
from common.training.state import TrainState

Flat = dict[str, Any]  # arrays, or their shapes, by name: 'params/conv1/kernel'


class Given(NamedTuple):
    """Trained variables (arrays by collection) and their origin in words.

    classifier: the network of a run; None for a file. class_names: of a run, or those that the config.json of a folder
    gives; () if they are unknown. notes: sentences to print.
    """

    variables: PyTree
    origin: str
    classifier: Classifier | None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Matched(NamedTuple):
    """A head's array after its classes were matched by name.

    values: the whole array. known: the classes along `axis` that the given run has; the others start untrained.
    """

    values: np.ndarray
    known: Bool[np.ndarray, " classes"]
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.values.shape


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
    are `Matched`. Without it, the head's own names have to agree with them.
    """
    like = shapes(classifier.module, classifier)
    head = head_arrays(classifier)
    if imagenet_names.same(given.class_names, class_names):
        given = given._replace(class_names=tuple(class_names))
    _check_axes(given, like, head)
    places = match(given, class_names, head) if config.init.match_classes else None
    if places is not None:
        given = given._replace(variables=_with_head(given, places, classifier, _flatten(like)))
    elif not config.init.new_head:
        _check_classes(given, like, head)
        _check_names(given, class_names)
    variables, changes = _fitted(given, like, classifier, config)
    flat = _flatten(variables)
    if config.init.new_head:
        flat |= {name: array for name, array in _flatten(like).items() if name in head}
        changes = [*changes, _new_head(given, like, head)]
    if places is not None:
        for name in (name for name in head if name in flat and not _is_untrained(flat[name])):
            flat[name] = Matched(np.asarray(flat[name]), places >= 0, head[name])
        changes = [*changes, _matched(given, class_names, places)]
    _check(flat, _flatten(like), given.origin)
    return flat, changes


def shapes(module: nn.Module, classifier: Classifier) -> PyTree:
    """The shapes of a module's variables on the classifier's images."""
    return jax.tree.map(lambda shape: shape, _shapes(module, tuple(classifier.input_shape)))  # a tree of its own


@functools.lru_cache(8)  # tracing a deep network takes a second
def _shapes(module: nn.Module, image_shape: tuple[int, ...]) -> PyTree:
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(lambda key, images: module.init(key, images, train=False), jax.random.key(0), images)


def head_arrays(classifier: Classifier) -> dict[str, int]:
    """Names of the arrays whose shapes depend on the number of classes (the head, or heads), with the classes' axis."""
    more = _flatten(shapes(classifier.module.clone(num_classes=classifier.num_classes + 1), classifier))
    axes = {}
    for name, array in _flatten(shapes(classifier.module, classifier)).items():
        if (differs := np.not_equal(array.shape, more[name].shape)).any():
            axes[name] = int(differs.argmax())
    return axes


def match(given: Given, class_names: Sequence[str], head: Mapping[str, int]) -> Int[np.ndarray, " classes"]:
    """The place in the given head of each of the dataset's classes, by name.

    It is -1 for a name that the head does not know, and for one that several of its classes have, as 'crane' in
    ImageNet. Raises UserError if the weights name no classes, the network has no head, or no name is shared.
    """
    if not given.class_names:
        raise UserError(
            f"config.init.match_classes is True, but {given.origin} is a file, which names no classes; give a run's "
            "workdir, or set config.init.new_head=True"
        )
    if not head:
        raise UserError("config.init.match_classes is True, but no array of this network depends on the classes")
    counts = collections.Counter(given.class_names)
    theirs = {name: place for place, name in enumerate(given.class_names) if counts[name] == 1}
    places = np.array([theirs.get(name, -1) for name in class_names], np.int64)
    if not (places >= 0).any():
        raise UserError(
            f"{given.origin} knows none of the dataset's classes: its own are {listed(given.class_names)}, and the "
            f"dataset's {listed(class_names)}; set config.init.new_head=True to start with a new head"
        )
    return places


def check_head(config: ConfigDict, step: int, folder: pathlib.Path) -> None:
    """Raises UserError for a run whose head is untrained, since its classes mean nothing yet."""
    if config.init.checkpoint and config.init.new_head and not step:
        raise UserError(
            f"the head of {folder} is untrained: only predict --embeddings=FILE.npz works; train a head with "
            f"configs/finetune.py and --config.init.checkpoint={config.init.checkpoint}"
        )


def published(family: str, variables: PyTree, module: nn.Module) -> tuple[dict[str, np.ndarray], str]:
    """Variables by the names of the family's published files, or by our own, and which: 'published' or 'our'."""
    rename = getattr(models.optional_module(family, "weights"), "to_published", None)
    arrays = rename(variables, module) if rename else None
    return (_flatten(variables), "our") if arrays is None else (arrays, "published")


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
    ours = _flatten(shapes(classifier.module, classifier))
    if weights is None or not hasattr(weights, "from_published") or arrays.keys() == ours.keys():
        return Given(traverse_util.unflatten_dict(arrays, sep="/"), str(path), None)
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


def _check_names(given: Given, class_names: Sequence[str]) -> None:
    """Raises UserError when a run's head tells as many classes apart, but others or in another order.

    A file may spell its classes in another way than the dataset, so only names that both have are compared.
    """
    pairs = zip(given.class_names, class_names, strict=False)
    different = [(theirs, ours) for theirs, ours in pairs if theirs != ours]
    if given.classifier is None:
        counts = collections.Counter(given.class_names)
        shared = {name for name in class_names if counts[name] == 1}
        different = [pair for pair in different if shared.intersection(pair)]
    if different and len(given.class_names) == len(class_names):
        theirs, ours = different[0]
        raise UserError(
            f"{given.origin} was trained on other classes: '{theirs}' is '{ours}' in the dataset "
            f"({len(different)} of {len(class_names)} differ); {_advice(given)}"
        )


def _check_axes(given: Given, like: PyTree, head: Mapping[str, int]) -> None:
    """Raises UserError for a head that is no head, such as a single number, of a damaged or a foreign file."""
    theirs, ours = _flatten(given.variables), _flatten(like)
    for name in head:
        if name in theirs and len(theirs[name].shape) != len(ours[name].shape):
            raise UserError(_wrong_shape(given.origin, name, theirs[name], ours[name]))


def _check_classes(given: Given, like: PyTree, head: Mapping[str, int]) -> None:
    """Raises UserError when the head is for another number of classes."""
    theirs, ours = _flatten(given.variables), _flatten(like)
    for name, axis in head.items():
        if name in theirs and theirs[name].shape[axis] != ours[name].shape[axis]:
            raise UserError(
                f"{given.origin} tells {theirs[name].shape[axis]:,} classes apart and the dataset has "
                f"{ours[name].shape[axis]:,}: {_advice(given)}"
            )


def _advice(given: Given) -> str:
    """The ways to start from a network with other classes; most files do not name theirs."""
    new_head = "config.init.new_head=True to start with a new head"
    if not given.class_names:
        return f"set {new_head}"
    return f"set config.init.match_classes=True to keep the classes of the same name, or {new_head}"


def _with_head(given: Given, places: Int[np.ndarray, " classes"], classifier: Classifier, ours: Flat) -> PyTree:
    """The given variables with the classes of `places` in every head, zeros for those that are not known.

    ours: the network's own shapes, which heads that start untrained have.
    """
    flat = _flatten(given.variables)
    for name, axis in head_arrays(given.classifier or classifier).items():
        if _is_untrained(flat[name]):
            flat[name] = ours[name]
            continue
        taken = np.moveaxis(np.take(flat[name], np.maximum(places, 0), axis), axis, -1)
        flat[name] = np.moveaxis(np.where(places >= 0, taken, 0).astype(taken.dtype), -1, axis)
    return traverse_util.unflatten_dict(flat, sep="/")


def _matched(given: Given, class_names: Sequence[str], places: Int[np.ndarray, " classes"]) -> str:
    """A sentence about the head, whose classes have come by name."""
    untrained = [name for name, place in zip(class_names, places, strict=True) if place < 0]
    unused = len(given.class_names) - (places >= 0).sum()
    said = f"HEAD BY NAME: {len(places) - len(untrained):,} of {len(places):,} classes have come with their weights"
    said += f"; untrained: {listed(untrained)}" if untrained else ""
    return said + (f"; {unused:,} of the given classes are DROPPED" if unused else "")


def _new_head(given: Given, like: PyTree, head: Mapping[str, int]) -> str:
    """A sentence about the head, which starts untrained."""
    if not head:
        raise UserError("config.init.new_head is True, but no array of this network depends on the number of classes")
    theirs, ours = _flatten(given.variables), _flatten(like)
    classes = [f"{theirs[name].shape[axis]:,}" for name, axis in head.items() if name in theirs]
    count = next(ours[name].shape[axis] for name, axis in head.items())
    names = ", ".join(sorted({name.removeprefix("params/").rpartition("/")[0] for name in head}))
    dropped = f"; the head for {classes[0]} classes is DROPPED" if classes else ""
    return f"NEW HEAD: '{names}' for {count:,} classes starts untrained{dropped}"


def _check(flat: Flat, wanted: Flat, origin: str) -> None:
    """Raises UserError unless the names are the wanted ones and every array, or shape of an untrained one, fits."""
    missing, extra = sorted(set(wanted) - set(flat)), sorted(set(flat) - set(wanted))
    if missing or extra:
        raise UserError(
            f"{origin} is another network: it {missing_and_extra(missing, extra)}; choose its config.model.variant"
        )
    for name, array in wanted.items():
        if flat[name].shape != array.shape:
            raise UserError(_wrong_shape(origin, name, flat[name], array))


def _wrong_shape(origin: str, name: str, given: Any, wanted: Any) -> str:
    return f"{origin} is another network: '{name}' is {given.shape}, expected {wanted.shape}"


def replace(state: TrainState, flat: Flat) -> TrainState:
    """The state with these arrays, laid out as its own; arrays that start untrained stay."""

    def put(tree: PyTree) -> PyTree:
        arrays = {name: placed(flat[name], leaf) for name, leaf in _flatten(tree).items()}
        return traverse_util.unflatten_dict(arrays, sep="/")

    variables = put({"params": state.params, **state.model_state})
    params = variables.pop("params")
    return state.replace(params=params, model_state=variables, ema=None if state.ema is None else put(state.ema))


def placed(array: Any, leaf: Any) -> jax.Array:
    """An array of `initial_arrays` with the type and the layout of `leaf`, which an untrained one leaves as it is."""
    if _is_untrained(array):
        return leaf
    if isinstance(array, Matched):
        known = np.expand_dims(array.known, [axis for axis in range(leaf.ndim) if axis != array.axis])
        return jnp.where(known, mesh.place(np.array(array.values, leaf.dtype), leaf.sharding), leaf)
    return mesh.place(np.asarray(array, leaf.dtype), leaf.sharding)


def _is_untrained(array: Any) -> bool:
    """True for the shape that stands for an array without weights."""
    return isinstance(array, jax.ShapeDtypeStruct)


def _flatten(tree: PyTree) -> Flat:
    return traverse_util.flatten_dict(tree, sep="/")
