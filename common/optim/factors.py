"""Factors of the learning rate for parameters by name; the factor 0 freezes.

A factor is written PATTERN=NUMBER, with a shell pattern for the names of arrays: 'conv1*=0' freezes the first layer of
a ResNet, 'fc*=10' makes its head learn ten times as fast. The first pattern that matches an array's name decides; other
arrays have the factor 1. Batch statistics of frozen layers still follow the batches.
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

import jax
import optax
from jaxtyping import PyTree

from common.errors import UserError, unknown

_LABELS = {True: "trained", False: "frozen"}


def parse(texts: Sequence[str]) -> dict[str, float]:
    """The factors by pattern, from texts such as 'conv1*=0'. Raises UserError for a malformed or repeated one."""
    found = {}
    for text in texts:
        pattern, separator, number = text.partition("=")
        try:
            factor = float(number)
        except ValueError:
            factor = -1.0
        if not (pattern and separator and 0 <= factor < float("inf")):
            raise UserError(
                f"config.optimizer.factors has {text!r}; expected PATTERN=NUMBER with a number of at least 0, such as "
                "'conv1*=0' or 'fc*=10'"
            )
        if pattern in found:
            raise UserError(f"config.optimizer.factors has the pattern {pattern!r} twice; leave one")
        found[pattern] = factor
    return found


def scale_by_factors(chain: optax.GradientTransformation, factors: Mapping[str, float]) -> optax.GradientTransformation:
    """The chain, with each array's updates multiplied by its factor.

    Frozen arrays have no optimizer state and no decay, and their gradients do not count in `clip_norm`.

    `init` raises UserError for a pattern that is not the first match of any array.
    """

    def scale(updates: PyTree, state: optax.EmptyState, params: PyTree = None) -> tuple[PyTree, optax.EmptyState]:
        return jax.tree.map_with_path(lambda path, update: _factor(path, factors) * update, updates), state

    def labels(params: PyTree) -> PyTree:
        _check(params, factors)
        return jax.tree.map_with_path(lambda path, _: _LABELS[_factor(path, factors) > 0], params)

    scaled = optax.chain(chain, optax.GradientTransformation(lambda params: optax.EmptyState(), scale))
    return optax.partition({"trained": scaled, "frozen": optax.set_to_zero()}, labels)


def count_frozen(params: PyTree, factors: Mapping[str, float]) -> int:
    """The number of parameters (single numbers) that are frozen."""
    sizes = [(_factor(path, factors), leaf.size) for path, leaf in jax.tree.leaves_with_path(params)]
    return sum(size for factor, size in sizes if factor == 0)


def _factor(path: tuple, factors: Mapping[str, float]) -> float:
    return factors.get(_deciding(_name(path), factors), 1.0)


def _deciding(name: str, patterns: Iterable[str]) -> str:
    """The first pattern that matches an array's name; '' if none does."""
    return next((pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)), "")


def _name(path: tuple) -> str:
    """The name of an array, such as 'conv2_1/bn1/scale'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _check(params: PyTree, factors: Mapping[str, float]) -> None:
    names = [_name(path) for path, _ in jax.tree.leaves_with_path(params)]
    deciding = {_deciding(name, factors) for name in names}
    for pattern in factors:
        if not fnmatch.filter(names, pattern):
            layers = list(dict.fromkeys(name.partition("/")[0] for name in names))
            raise unknown("pattern of config.optimizer.factors", pattern, [f"{layer}*" for layer in layers])
        if pattern not in deciding:
            raise UserError(
                f"config.optimizer.factors has {pattern!r} after patterns that match all of its arrays, and the first "
                "that matches decides; put it before them"
            )
    if all(_factor(path, factors) == 0 for path, _ in jax.tree.leaves_with_path(params)):
        raise UserError("config.optimizer.factors freezes every parameter; leave one to train, such as the head")
