"""A network's layers with their output shapes, parameters and multiply-adds, found by tracing, not by computing.

While a Linen module is traced, an interceptor writes each submodule's path on the operations inside it and on its
output; everything here is then read off the traced program.
"""

import collections
import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core
from jaxtyping import Array, PyTree

from common.anatomy.receptive_field import called_programs, receptive_fields, shape_of
from common.anatomy.rounding import rounded_like
from common.devices import compilation

_MARK = "module:"


@dataclasses.dataclass(frozen=True)
class Row:
    """One module and everything inside it, for one image.

    name: path in the parameter tree, '' for the whole network. type: class of the module.
    output_shape: of the module's (first) output, without the batch axis.
    receptive_field: the most rows of the image that one output position sees; None if that is not known.
    parameters, multiply_adds: of the module and everything inside it. Multiply-adds are those of matrix products
        and convolutions, products with padding included; element-wise work is not counted.
    leaf: whether the module contains no other.
    repeats: the number of blocks that a scan makes of the module; parameters and multiply-adds are those of all.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    receptive_field: int | None
    parameters: int
    multiply_adds: int
    leaf: bool
    repeats: int = 1


def rows(module: nn.Module, input_shape: tuple[int, int, int], train: bool = False) -> list[Row]:
    """Rows for one image of `input_shape` (height, width, channels): the whole network, then its modules in order."""
    marks = _Marks()
    with nn.intercept_methods(marks), compilation.portable():
        shapes = variable_shapes(module, input_shape, train)
        apply = functools.partial(_apply, module, train=train)
        program = jax.make_jaxpr(apply)(shapes, _images(1, input_shape))
    work = _with_ancestors(_count(program.jaxpr))
    fields = receptive_fields(program.jaxpr, len(jax.tree.leaves(shapes)), _MARK)
    sizes = traverse_util.flatten_dict(shapes.get("params", {}), sep="/")
    parameters = _with_ancestors({path: math.prod(leaf.shape) for path, leaf in sizes.items()})
    repeats = _repeats(program.jaxpr)
    return [
        Row(
            name=name,
            type=kind,
            output_shape=marks.shapes[name][1:],
            receptive_field=fields.get(name),
            parameters=parameters[name],
            multiply_adds=work[name],
            leaf=name not in marks.parents,
            repeats=repeats.get(name, 1),
        )
        for name, kind in marks.types.items()
    ]


def multiply_adds(function: Callable, *args: Any) -> dict[str, int]:
    """Multiply-adds of a call of `function`, by the path of the Linen module that does them ('' for none).

    `args` may be `jax.ShapeDtypeStruct`s. Every step of a scan counts. A conditional counts as its most expensive
    branch. The body of a while loop, whose length is not known, counts once, with a warning.
    """
    with nn.intercept_methods(_Marks()), compilation.portable():
        program = jax.make_jaxpr(function)(*args)
    return dict(_count(program.jaxpr))


def multiply_adds_per_image(module: nn.Module, variables: PyTree, input_shape: tuple[int, int, int]) -> int:
    """The network's multiply-adds for one image, forwards; `variables` are arrays or their shapes."""
    return sum(multiply_adds(module.apply, variables, _images(1, input_shape)).values())


def variable_shapes(module: nn.Module, input_shape: tuple[int, int, int], train: bool = False) -> PyTree:
    """The shapes of all variables of the network."""
    init = functools.partial(module.init, train=train)
    key = jax.eval_shape(lambda: jax.random.key(0))  # a real one would start a device
    return jax.eval_shape(init, key, _images(1, input_shape))


def _images(batch: int, input_shape: tuple[int, int, int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((batch, *input_shape), jnp.float32)


class _Marks:
    """A Flax interceptor that marks operations and outputs with the path of their module, and lists the modules."""

    def __init__(self):
        self.types: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.parents: set[str] = set()

    def __call__(self, call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        path = context.module.path
        name = "/".join(path)
        if context.method_name == "setup":
            return call(*args, **kwargs)
        self.types.setdefault(name, type(context.module).__name__)
        if path:
            self.parents.update("/".join(path[:depth]) for depth in range(len(path)))
        with jax.named_scope(_MARK + name):
            leaves, structure = jax.tree.flatten(call(*args, **kwargs))
        first = next((i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)), None)
        self.shapes[name] = ()
        if first is not None:
            leaves[first] = checkpoint_name(leaves[first], _MARK + name)
            self.shapes[name] = leaves[first].shape
        return jax.tree.unflatten(structure, leaves)


def _apply(module: nn.Module, variables: PyTree, images: Array, train: bool) -> PyTree:
    """The network's output, and its new state when training."""
    state = [name for name in variables if name != "params"] if train else False
    return module.apply(variables, images, train=train, rngs={"dropout": jax.random.key(0)}, mutable=state)


def _with_ancestors(values: dict[str, int]) -> collections.Counter[str]:
    """The sum of the values at and below each path, '' included."""
    totals: collections.Counter[str] = collections.Counter()
    for path, value in values.items():
        parts = path.split("/") if path else []
        for depth in range(len(parts) + 1):
            totals["/".join(parts[:depth])] += value
    return totals


def _count(jaxpr: core.Jaxpr, module: str = "") -> collections.Counter[str]:
    """Multiply-adds of a program by module; `module` is the caller of the program."""
    totals: collections.Counter[str] = collections.Counter()
    for eqn in jaxpr.eqns:
        name = _module_of(eqn, module)
        if eqn.primitive.name in _COUNTED:
            totals[name] += _COUNTED[eqn.primitive.name](eqn)
        elif eqn.primitive.name == "cond":
            branches = [_count(branch.jaxpr, name) for branch in eqn.params["branches"]]
            costliest = max(branches, key=lambda branch: branch.total())
            totals.update(costliest)
        else:
            times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
            inside: collections.Counter[str] = collections.Counter()
            for body in called_programs(eqn):
                inside.update(_count(body, name))
            if eqn.primitive.name == "while" and inside.total():
                warnings.warn(f"a while loop in '{name}': its multiply-adds are counted once", stacklevel=2)
            totals.update({key: times * value for key, value in inside.items()})
    return totals


def _repeats(jaxpr: core.Jaxpr) -> dict[str, int]:
    """The lengths of a program's scans, by the outermost module inside each."""
    found: dict[str, int] = {}
    for eqn in jaxpr.eqns:
        for body in called_programs(eqn):
            if eqn.primitive.name == "scan" and (inside := _named_in(body)):
                found[min(inside, key=len)] = eqn.params["length"]
            found |= _repeats(body)
    return found


def _named_in(jaxpr: core.Jaxpr) -> list[str]:
    """The modules whose outputs are marked in a program."""
    names = [eqn.params["name"] for eqn in jaxpr.eqns if eqn.primitive.name == "name"]
    found = [name.removeprefix(_MARK) for name in names if name.startswith(_MARK)]
    return found + [name for eqn in jaxpr.eqns for body in called_programs(eqn) for name in _named_in(body)]


def _product(eqn: core.JaxprEqn) -> int:
    """Multiply-adds of a `dot_general`: each number of the result sums over the contracted axes."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    return math.prod(shape_of(eqn.outvars[0])) * math.prod(shape_of(eqn.invars[0])[axis] for axis in contracted)


def _convolution(eqn: core.JaxprEqn) -> int:
    """Multiply-adds of a convolution: a kernel's input channels are those of one group."""
    kernel, features = shape_of(eqn.invars[1]), eqn.params["dimension_numbers"].rhs_spec[0]
    return math.prod(shape_of(eqn.outvars[0])) * math.prod(kernel) // kernel[features]


_COUNTED = {"dot_general": _product, "conv_general_dilated": _convolution}


def _module_of(eqn: core.JaxprEqn, caller: str) -> str:
    """The innermost marked module around an operation, or `caller` inside a function that carries no marks."""
    scopes = [getattr(scope, "name", "") for scope in eqn.source_info.name_stack.stack]
    marked = [scope.removeprefix(_MARK) for scope in scopes if scope.startswith(_MARK)]
    return marked[-1] if marked else caller


# The columns that a paper may give values for, with their headings.
_COLUMNS = {
    "output_shape": "output",
    "receptive_field": "sees",
    "parameters": "parameters",
    "multiply_adds": "multiply-adds",
    "connections": "connections",
}
WIDTH = 100  # columns of a terminal


def format_table(
    layers: list[Row],
    paper: Mapping[str, Mapping[str, Any]] | None = None,
    connections: Mapping[str, int] | None = None,
    depth: int | None = None,
    width: int = WIDTH,
) -> str:
    """The result of `rows` as text of at most `width` columns, nested modules indented and the whole network last.

    paper: layer -> column (a field of `Row` or 'connections') -> the paper's value. It is shown beside ours: as '='
        where they agree, with a star where they differ. The layer 'total' is the whole network. A number that the
        paper rounds is given as text, such as '159K' or '1.5B', and compared as rounded.
    connections: layer -> connections, as the paper counts them.
    depth: levels of nested modules to show; None is all.
    """
    paper, connections = paper or {}, connections or {}
    shown = [row for row in layers[1:] if depth is None or row.name.count("/") < depth] + layers[:1]
    lines = _aligned(_columns(shown, paper, connections), width)
    if any(row.repeats > 1 for row in shown):
        lines.append("xN: N blocks of one form; the row and those of its parts count all N together")
    if paper:
        lines.append("paper: = as ours, * differs; a rounded number is compared as rounded")
    if absent := [name for name in paper if name not in {row.name or "total" for row in layers}]:
        lines.append(f"in the paper, but no module here: {', '.join(absent)}")
    return "\n".join(lines)


def _columns(shown: list[Row], paper: Mapping, connections: Mapping[str, int]) -> list[tuple[str, list[str]]]:
    """The headings and cells of a table, from left to right."""
    names = [row.name or "total" for row in shown]
    times = [f" x{row.repeats}" if row.repeats > 1 else "" for row in shown]
    ends = ["  " * name.count("/") + name.rpartition("/")[2] for name in names]
    columns = [("layer", [end + repeated for end, repeated in zip(ends, times, strict=True)])]
    columns.append(("type", [row.type for row in shown]))
    for column, heading in _COLUMNS.items():
        ours = [getattr(row, column, connections.get(name)) for name, row in zip(names, shown, strict=True)]
        theirs = [paper.get(name, {}).get(column) for name in names]
        if any(value is not None for value in ours):
            columns.append((heading, [_text(value) for value in ours]))
        if any(value is not None for value in theirs):
            columns.append(("paper", [_beside(*values) for values in zip(ours, theirs, strict=True)]))
    return columns


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "x".join(str(size) for size in value)
    return f"{value:,}" if isinstance(value, int) else str(value or "")


def _beside(ours: Any, theirs: Any) -> str:
    """The paper's value: '=' where it equals ours, with a star where ours would be printed differently."""
    if theirs is None:
        return ""
    text = _text(theirs)
    if text == _text(ours):
        return "="
    rounded = isinstance(theirs, str) and isinstance(ours, int) and rounded_like(ours, theirs) == theirs
    return text if rounded else f"{text}*"


def _aligned(columns: list[tuple[str, list[str]]], width: int) -> list[str]:
    """Lines of text with names flush left and values flush right.

    If lines would be too long, the types, the second column, are cut. If types have no room at all they are left out,
    and if that is not enough, names are cut.
    """
    widths = [max(map(len, [heading, *cells])) for heading, cells in columns]
    widths[1] -= max(sum(widths) + 2 * (len(widths) - 1) - width, 0)
    if widths[1] < len("type"):
        columns, widths = [columns[0], *columns[2:]], [widths[0], *widths[2:]]
        widths[0] = max(widths[0] - max(sum(widths) + 2 * (len(widths) - 1) - width, 0), len("layer"))
    lines = []
    for line in zip(*([heading, *cells] for heading, cells in columns), strict=True):
        cells = [
            cell[:size].ljust(size) if heading in ("layer", "type") else cell.rjust(size)
            for cell, size, (heading, _) in zip(line, widths, columns, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    rule = "-" * max(map(len, lines))
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]
