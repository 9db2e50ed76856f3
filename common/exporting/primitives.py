"""A function written only with JAX's primitives, so that jax2onnx can convert it with a batch of any size.

jax2onnx 0.13.0 is the last release that works with this Orbax. It replaces functions of Flax and jax.numpy while it
traces, which breaks attention. It also lacks `stack`, and `pad` for a batch of any size. So it only gets primitives,
and these two are written with others.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.extend.core import Jaxpr, JaxprEqn, Literal
from jaxtyping import Array

_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def flattened(function: Callable[[Array], Array], argument: jax.ShapeDtypeStruct) -> Callable[[Array], Array]:
    """The function for arrays like `argument`, traced now; evaluating it calls only primitives."""
    closed = jax.make_jaxpr(function)(argument)
    return lambda array: _evaluate(closed.jaxpr, closed.consts, [array])[0]


def _evaluate(jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """The results of a traced function, with the calls of other functions replaced by their contents."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [value(atom) for atom in equation.invars]
        known = not any(isinstance(operand, Tracer) for operand in operands) and _is_fixed(equation)
        with jax.ensure_compile_time_eval() if known else contextlib.nullcontext():
            values.update(zip(equation.outvars, _results(equation, operands), strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _results(equation: JaxprEqn, operands: Sequence[Any]) -> Sequence[Any]:
    name, options = equation.primitive.name, equation.params
    if name in _CALLS:
        inner = options[_CALLS[name]]
        return _evaluate(inner.jaxpr, inner.consts, operands)
    if name in ("checkpoint", "remat2"):
        return _evaluate(options["jaxpr"], (), operands)
    if name == "scan":
        return _unrolled(operands, options)
    if name in _REWRITTEN:
        return [_REWRITTEN[name](*operands, **options)]
    results = equation.primitive.bind(*operands, **options)
    return results if equation.primitive.multiple_results else [results]


def _is_fixed(equation: JaxprEqn) -> bool:
    """False for results whose size depends on the batch."""
    return all(
        isinstance(length, int) for variable in equation.outvars for length in getattr(variable.aval, "shape", ())
    )


def _unrolled(operands: Sequence[Any], options: dict[str, Any]) -> Sequence[Any]:
    """The results of `lax.scan` without a loop, so that each step knows its weights."""
    body, count, kept = options["jaxpr"], options["num_consts"], options["num_carry"]
    constants, carry, xs = operands[:count], operands[count : count + kept], operands[count + kept :]
    rows = []
    for step in range(options["length"])[:: -1 if options["reverse"] else 1]:
        with jax.ensure_compile_time_eval():
            slices = [x[step] for x in xs]
        results = _evaluate(body.jaxpr, body.consts, [*constants, *carry, *slices])
        carry, row = results[:kept], results[kept:]
        rows.append(row)
    if any(rows):
        raise NotImplementedError("a loop that collects the outputs of its steps")
    return carry


def _stack(*operands: Array, axis: int) -> Array:
    shape = operands[0].shape
    return lax.concatenate([lax.reshape(x, (*shape[:axis], 1, *shape[axis:])) for x in operands], axis)


def _pad(operand: Array, value: Any, padding_config: Any) -> Array:
    """`lax.pad` as a concatenation: the added pixels are copies of the operand, whose numbers are replaced."""
    for axis, (before, after, between) in enumerate(padding_config):
        countable = isinstance(operand.shape[axis], int)  # a batch of any size is not
        if min(before, after) < 0 or between or max(before, after) and not countable:
            raise NotImplementedError(f"padding {padding_config} of {operand.shape}")
        if before or after:
            fillers = (_filler(operand, int(length), axis, value) for length in (before, after))
            operand = lax.concatenate([*next(fillers), operand, *next(fillers)], axis)
    return operand


def _filler(operand: Array, length: int, axis: int, value: Any) -> list[Array]:
    """Arrays like the operand, full of `value`, which are `length` long together."""
    whole, rest = divmod(length, operand.shape[axis])
    copies = [_filled(operand, value)] * whole
    return [*copies, _filled(lax.slice_in_dim(operand, 0, rest, axis=axis), value)] if rest else copies


def _filled(like: Array, value: Any) -> Array:
    return lax.max(lax.min(like, value), value)


def _dot_general(lhs: Array, rhs: Any, dimension_numbers: Any, **options: Any) -> Array:
    """A product with weights as a product of two matrices, which runtimes know best; only these are quantised."""
    (left, right), batched = dimension_numbers
    lead = lhs.ndim - len(left)
    weights = isinstance(lhs, Tracer) and not isinstance(rhs, Tracer) and not any(map(len, batched))
    if not weights or tuple(left) != tuple(range(lead, lhs.ndim)) or tuple(right) != tuple(range(len(right))):
        return lax.dot_general_p.bind(lhs, rhs, dimension_numbers=dimension_numbers, **options)
    inner, outer = math.prod(rhs.shape[: len(right)]), rhs.shape[len(right) :]
    with jax.ensure_compile_time_eval():
        matrix = jnp.reshape(rhs, (inner, math.prod(outer)))
    rows = lhs if lhs.ndim == 2 else lax.reshape(lhs, (math.prod(lhs.shape[:lead]), inner))
    product = lax.dot_general_p.bind(rows, matrix, dimension_numbers=(((1,), (0,)), ((), ())), **options)
    shape = (*lhs.shape[:lead], *outer)
    return product if len(shape) == 2 else lax.reshape(product, shape)


_REWRITTEN: dict[str, Callable[..., Array]] = {"stack": _stack, "pad": _pad, "dot_general": _dot_general}
