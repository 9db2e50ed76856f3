"""The rows of the image that each layer sees, found by following the rows through a traced network.

Each number of the network is replaced by the first image row that it depends on: sums and products take the
minimum over what they combine, reshapes and slices move it along. A second pass with the rows counted backwards
finds the last row. This works for any wiring (branches, shortcuts, partial connections). It costs little, since
values that do not depend on the image are not followed and all channels of a convolution share one result.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax.extend import core

# The first row that each number of an array depends on; None where the array does not depend on the image.
Rows = np.ndarray | None
# Padding depends on no row; its row is later than every other, counted forwards or backwards.
_NEVER = np.iinfo(np.int16).max


def receptive_fields(program: core.Jaxpr, image: int, mark: str) -> dict[str, int]:
    """For each array that `program` names `mark` + NAME, the most rows that one of its positions sees, by NAME.

    image: the position of the images, [1, height, width, channels], among the program's arguments. An operation that
    is not known here counts as seeing everything that its inputs see. Arrays named inside loops are left out.
    """
    shape = shape_of(program.invars[image])
    rows = np.broadcast_to(np.arange(shape[1], dtype=np.int16)[:, None, None], shape)
    first: dict[str, np.ndarray] = {}
    last: dict[str, np.ndarray] = {}
    for found, start in ((first, rows), (last, -rows)):
        arguments = [start if i == image else None for i in range(len(program.invars))]
        _follow(program, arguments, found, mark)
    return {name: int((-last[name].astype(np.int32) - first[name]).max()) + 1 for name in first}


def called_programs(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """The programs that an operation calls: branches, loop bodies, compiled and differentiated functions."""
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def shape_of(variable: core.Var | core.Literal) -> tuple[int, ...]:
    """The shape of a variable's array."""
    array: Any = variable.aval  # JAX's type is that of every abstract value, and only arrays have a shape
    return array.shape


def _follow(program: core.Jaxpr, arguments: list[Rows], found: dict[str, np.ndarray], mark: str) -> list[Rows]:
    """The rows of a program's results; the rows of its marked arrays are added to `found`."""
    known = dict(zip(program.invars, arguments, strict=True))

    def read(variable: core.Var | core.Literal) -> Rows:
        return None if isinstance(variable, core.Literal) else known.get(variable)

    for eqn in program.eqns:
        inputs = [read(variable) for variable in eqn.invars]
        if all(rows is None for rows in inputs):
            continue
        called = list(called_programs(eqn))
        if eqn.primitive.name in _CALLS and len(called) == 1:
            outputs = _follow(called[0], inputs, found, mark)
        elif eqn.primitive.name in _RULES:
            outputs = [_RULES[eqn.primitive.name](eqn, inputs)]
        elif eqn.primitive.name in _PARTS:
            outputs = _PARTS[eqn.primitive.name](eqn, inputs)
        elif called or eqn.primitive.name in _MIXING or not _elementwise(eqn, inputs):
            outputs = [_everything(variable, inputs) for variable in eqn.outvars]
        else:
            outputs = [np.broadcast_to(_earliest(inputs), shape_of(eqn.outvars[0]))]
        known.update(zip(eqn.outvars, outputs, strict=True))
        if eqn.primitive.name == "name" and eqn.params["name"].startswith(mark):
            found[eqn.params["name"].removeprefix(mark)] = _only(inputs)
    return [read(variable) for variable in program.outvars]


def _elementwise(eqn: core.JaxprEqn, inputs: list[Rows]) -> bool:
    """True if, judging by shapes, each number of the only result depends just on the numbers at its own position."""
    shape = shape_of(eqn.outvars[0])
    followed = [rows.shape for rows in inputs if rows is not None]
    same_rank = all(len(other) == len(shape) for other in followed)
    return (
        len(eqn.outvars) == 1
        and same_rank
        and all(set(sizes) <= {1, size} for size, *sizes in zip(shape, *followed, strict=True))
    )


def _only(inputs: list[Rows]) -> np.ndarray:
    """The rows of the one input that depends on the image."""
    (rows,) = (rows for rows in inputs if rows is not None)
    return rows


def _earliest(inputs: list[Rows]) -> np.ndarray:
    """The element-wise minimum over the inputs that depend on the image."""
    followed = [rows for rows in inputs if rows is not None]
    result = followed[0]
    for rows in followed[1:]:
        result = np.minimum(result, rows)
    return result


def _everything(result: core.Var, inputs: list[Rows]) -> np.ndarray:
    """The rows of a result in which each number may depend on all numbers of all inputs."""
    return np.broadcast_to(min(rows.min(initial=_NEVER) for rows in inputs if rows is not None), shape_of(result))


def _windows(
    seen: np.ndarray, axis: int, size: int, stride: int, padding: Sequence[int | np.integer], dilation: int
) -> np.ndarray:
    """The minimum over each window along an axis."""
    if size == stride == 1 and not any(padding):
        return seen
    seen = np.moveaxis(_padded(seen, [(*padding, 0) if i == axis else (0, 0, 0) for i in range(seen.ndim)]), axis, 0)
    count = (len(seen) - (size - 1) * dilation - 1) // stride + 1
    taps = [seen[k * dilation :][: (count - 1) * stride + 1 : stride] for k in range(size)]
    return np.moveaxis(np.minimum.reduce(taps), 0, axis)


def _padded(seen: np.ndarray, padding: Sequence[Sequence[int | np.integer]]) -> np.ndarray:
    """The rows padded as by `lax.pad`, with (before, after, between) for each axis; negative amounts crop."""
    places, kept, shape = [], [], []
    for size, (before, after, between) in zip(seen.shape, padding, strict=True):
        shape.append(before + after + size + max(size - 1, 0) * between)
        place = before + np.arange(size) * (between + 1)
        kept.append(np.flatnonzero((place >= 0) & (place < shape[-1])))
        places.append(place[kept[-1]])
    result = np.full(shape, _NEVER, np.int16)
    result[np.ix_(*places)] = seen[np.ix_(*kept)]
    return result


def _convolution(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    """The minimum over windows, of all channels together, since the channels of all groups see the same rows."""
    params, (images, kernel) = eqn.params, inputs
    if images is None or kernel is not None or any(size != 1 for size in params["lhs_dilation"]):
        return _everything(eqn.outvars[0], inputs)
    numbers = params["dimension_numbers"]
    seen = images.min(axis=numbers.lhs_spec[1], keepdims=True)
    for i, axis in enumerate(numbers.lhs_spec[2:]):
        size = shape_of(eqn.invars[1])[numbers.rhs_spec[2 + i]]
        seen = _windows(seen, axis, size, params["window_strides"][i], params["padding"][i], params["rhs_dilation"][i])
    seen = seen.transpose(numbers.lhs_spec).transpose(np.argsort(numbers.out_spec))
    return np.broadcast_to(seen, shape_of(eqn.outvars[0]))


def _reduce_window(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    params, seen = eqn.params, _only(inputs)
    if any(size != 1 for size in params["base_dilation"]):
        return _everything(eqn.outvars[0], inputs)
    names = ("window_dimensions", "window_strides", "padding", "window_dilation")
    for axis, window in enumerate(zip(*(params[name] for name in names), strict=True)):
        seen = _windows(seen, axis, *window)
    return seen


def _product(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    """The rows of a matrix product: its axes are the batch axes, the left factor's other axes, then the right's."""
    contracted, batch = eqn.params["dimension_numbers"]
    shape = shape_of(eqn.outvars[0])
    sides = []
    for i, rows in enumerate(inputs):
        if rows is None:
            continue
        free = [axis for axis in range(rows.ndim) if axis not in (*contracted[i], *batch[i])]
        seen = rows.min(axis=tuple(contracted[i]), keepdims=True).transpose(*batch[i], *free, *contracted[i])
        leading, trailing = seen.shape[: len(batch[i])], seen.shape[len(batch[i]) :][: len(free)]
        others = (1,) * (len(shape) - len(leading) - len(trailing))
        sides.append(seen.reshape(*leading, *((*trailing, *others) if i == 0 else (*others, *trailing))))
    return np.broadcast_to(_earliest(sides), shape)


def _pad(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    if inputs[1] is not None:
        return _everything(eqn.outvars[0], inputs)
    return _padded(_only(inputs), eqn.params["padding_config"])


def _concatenate(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    return np.concatenate(_filled(eqn, inputs), axis=eqn.params["dimension"])


def _stack(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    return np.stack(_filled(eqn, inputs), axis=eqn.params["axis"])


def _filled(eqn: core.JaxprEqn, inputs: list[Rows]) -> list[np.ndarray]:
    never = (np.broadcast_to(np.int16(_NEVER), shape_of(variable)) for variable in eqn.invars)
    return [fill if rows is None else rows for rows, fill in zip(inputs, never, strict=True)]


def _split(eqn: core.JaxprEqn, inputs: list[Rows]) -> list[np.ndarray]:
    return np.split(_only(inputs), np.cumsum(eqn.params["sizes"])[:-1], axis=eqn.params["axis"])


def _unstack(eqn: core.JaxprEqn, inputs: list[Rows]) -> list[np.ndarray]:
    return list(np.moveaxis(_only(inputs), eqn.params["axis"], 0))


def _broadcast(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    seen, shape = _only(inputs), [1] * len(eqn.params["shape"])
    for axis, size in zip(eqn.params["broadcast_dimensions"], seen.shape, strict=True):
        shape[axis] = size
    return np.broadcast_to(seen.reshape(shape), eqn.params["shape"])


def _slice(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    start, limit = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(start)
    return _only(inputs)[tuple(slice(*bounds) for bounds in zip(start, limit, strides, strict=True))]


def _reshape(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    return _only(inputs).reshape(shape_of(eqn.outvars[0]))


def _transpose(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    return _only(inputs).transpose(eqn.params["permutation"])


def _reverse(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    return np.flip(_only(inputs), eqn.params["dimensions"])


def _reduce(eqn: core.JaxprEqn, inputs: list[Rows]) -> np.ndarray:
    return _only(inputs).min(axis=tuple(eqn.params["axes"]), initial=_NEVER)


_CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint"}
# Operations that mix numbers along an axis and keep the shape.
_MIXING = {"sort", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "fft"}
_PARTS = {"split": _split, "unstack": _unstack}
_RULES = {
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "pad": _pad,
    "concatenate": _concatenate,
    "stack": _stack,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "reshape": _reshape,
    "squeeze": _reshape,
    "transpose": _transpose,
    "rev": _reverse,
    **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), _reduce_window),
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin"), _reduce),
}
