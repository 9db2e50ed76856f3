"""Layers of a network by name, and taps that read a layer's input or output while the network computes."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float, PyTree

from common.errors import UserError, unknown

Images = Float[Array, "batch height width channels"]
Shapes = Mapping[str, tuple[int, ...] | None]

# Collections that can keep a tapped value. Layers inside a scan reach only the second. It comes second because families
# keep large arrays of their own in it if it is mutable.
_COLLECTIONS = ("tapped", "intermediates")
_NUDGE = "nudge"
_TRACED = 2  # images


@dataclasses.dataclass(frozen=True, order=True)  # JAX sorts the keys of dictionaries
class Tap:
    """A place in a network.

    layer: a module's path. rank: the number of axes of the value for one image. of_input: the value is what the module
    reads, not its (first) output.
    """

    layer: str
    rank: int = 1
    of_input: bool = False

    @property
    def key(self) -> str:
        """The name that the module keeps the value under."""
        return "tapped_input" if self.of_input else "tapped_output"

    def __str__(self) -> str:
        return f"input of {self.layer}" if self.of_input else self.layer


def output_shapes(module: nn.Module, variables: PyTree, input_shape: tuple[int, int, int]) -> Shapes:
    """The shape of each layer's (first) output for one image, in the order of the calls.

    It is None if the output is not one array for each image. A layer that a scan repeats has the shape of one call.
    """
    found: dict[str, tuple[int, ...] | None] = {}

    def note(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        name = "/".join(context.module.path)
        if not name or context.method_name != "__call__":
            return call(*args, **kwargs)
        found.setdefault(name, None)
        result = call(*args, **kwargs)
        first = next(iter(jax.tree.leaves(result)), None)
        found[name] = first.shape[1:] if isinstance(first, jax.Array) and first.shape[:1] == (_TRACED,) else None
        return result

    with nn.intercept_methods(note):
        images = jax.ShapeDtypeStruct((_TRACED, *input_shape), jnp.float32)
        jax.eval_shape(functools.partial(module.apply, train=False), variables, images)
    return found


def classifier_input(shapes: Shapes) -> Tap:
    """The input of the classifier, which is the last layer that a network calls."""
    return Tap([name for name in shapes if "/" not in name][-1], of_input=True)


def find_layer(shapes: Shapes, layer: str) -> Tap:
    """The output of the layer of that name. Raises UserError with the nearest name if there is none."""
    if layer not in shapes:
        raise unknown("layer", layer, shapes)
    shape = shapes[layer]
    if shape is None:
        raise UserError(f"layer '{layer}' does not give one array for each image; choose another")
    return Tap(layer, len(shape))


def last_maps(shapes: Shapes) -> Tap | None:
    """The last layer whose output is maps of more than one pixel; None if there is none.

    If layers around it have such an output too, it is the outermost: a residual block rather than its last convolution.
    """
    maps = [name for name, shape in shapes.items() if shape and len(shape) == 3 and shape[0] * shape[1] > 1]
    if not maps:
        return None
    parts = maps[-1].split("/")
    around = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    return Tap(next(name for name in around if name in maps), rank=3)


def read(
    module: nn.Module, variables: PyTree, images: Images, taps: Sequence[Tap], nudges: Mapping[Tap, Array] | None = None
) -> tuple[Any, dict[Tap, Array]]:
    """The network's outputs and the value at each tap, which has a first axis for the calls if it is inside a scan.

    nudges: arrays that are added to the values at some taps of outputs, so that the gradient with respect to one is
    that with respect to the value.
    """
    if not taps:
        return module.apply(variables, images, train=False), {}
    for collection in _COLLECTIONS:
        added = {(*tap.layer.split("/"), _NUDGE): values for tap, values in (nudges or {}).items() if not tap.of_input}
        given = {**variables, collection: traverse_util.unflatten_dict(added)} if added else variables
        apply = functools.partial(_apply, module, tuple(taps), collection)
        kept = jax.eval_shape(apply, given, images)[1]
        if kept.keys() == set(taps):
            return apply(given, images)
    missing = next(tap for tap in taps if tap not in kept)
    raise UserError(f"layer '{missing.layer}' is inside a loop that keeps no outputs; choose another")


def by_image(tap: Tap, values: Array) -> Float[Array, "batch ..."]:
    """The values at a tap in float32, with the images' axis before a scan's."""
    return jnp.moveaxis(values, values.ndim - 1 - tap.rank, 0).astype(jnp.float32)


def _apply(
    module: nn.Module, taps: Sequence[Tap], collection: str, variables: PyTree, images: Images
) -> tuple[Any, dict[Tap, Array]]:
    """The network's outputs, and the values at the taps that the collection reaches."""
    with nn.intercept_methods(functools.partial(_intercept, taps, collection)):
        outputs, state = module.apply(variables, images, train=False, mutable=[collection])
    kept = traverse_util.flatten_dict(state.get(collection, {}))
    paths = {tap: (*tap.layer.split("/"), tap.key) for tap in taps}
    return outputs, {tap: kept[path] for tap, path in paths.items() if path in kept}


def _intercept(
    taps: Sequence[Tap],
    collection: str,
    call: Callable,
    args: tuple,
    kwargs: dict,
    context: nn.module.InterceptorContext,
) -> Any:
    module = context.module
    tapped = [tap for tap in taps if tap.layer == "/".join(module.path) and context.method_name == "__call__"]
    outputs, structure = jax.tree.flatten(call(*args, **kwargs))
    if tapped and module.has_variable(collection, _NUDGE):
        outputs[0] += module.get_variable(collection, _NUDGE)
    for tap in tapped:
        value = (*args, *kwargs.values())[0] if tap.of_input else outputs[0]
        module.sow(collection, tap.key, value, reduce_fn=lambda _, new: new, init_fn=lambda: None)
    return jax.tree.unflatten(structure, outputs)
