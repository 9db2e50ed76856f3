"""Classifiers that the loop can train, made from a config's `model` section, and what a family must provide for them.

A family is a package at the top level (`lenet`, `resnet`, ...) that says `IS_FAMILY = True` in its `__init__.py` and
whose `model.py` has

    VARIANTS: dict[str, dict]                       name -> every hyper-parameter of that network, see `variants`
    network(section, num_classes) -> nn.Module      the network of a `model` section
    make_classifier(section, info) -> Classifier    the network, its loss and its logits, for a dataset's facts
    INIT_OPTIONS: dict[str, Any]                    optional: options that it adds to `config.init`, with their defaults
    check_init(section) -> None                     optional: raises UserError for invalid values of these

Nothing else in `common` knows a family: a new one takes a folder and a config.
"""

import dataclasses
import importlib
import importlib.util
import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from flax import linen as nn
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from common.errors import UserError, unknown
from common.files import ROOT

_MARKER = "IS_FAMILY = True"


@runtime_checkable
class Facts(Protocol):
    """The facts of a dataset that a network is made for; `dataset_info.Info` has them."""

    @property
    def num_classes(self) -> int:
        """The number of classes."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of what the network is fed."""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A network, the loss it is trained on, and the way to read a class off its output.

    module: Linen module called as `module.apply(variables, images, train=...)` on NHWC images; its output may
        be any tree (logits, penalties, main and auxiliary heads).
    loss: (outputs, labels) -> one loss per example; labels are class indices `[batch]` or, with `soft_labels`,
        also distributions over classes `[batch, classes]`.
    logits: outputs -> `[batch, classes]`, larger is likelier.
    input_shape: (height, width, channels) of one image.
    num_classes: the number of classes.
    soft_labels: whether the loss takes distributions.
    curvature: (params, images, labels) -> a tree like `params` with the diagonal of the Gauss-Newton matrix, for
        optimizers that need it; None for networks that do not provide it.
    remark: a line about the network that a run prints when it starts.
    """

    module: nn.Module
    loss: Callable[[Any, Array], Float[Array, " batch"]]
    logits: Callable[[Any], Float[Array, "batch classes"]]
    input_shape: tuple[int, int, int]
    num_classes: int
    soft_labels: bool = False
    curvature: Callable[[PyTree, Array, Array], PyTree] | None = None
    remark: str = ""


def families() -> list[str]:
    """Names of the packages beside `common` that say they are families."""
    found = (path for path in ROOT.glob("*/__init__.py") if _MARKER in path.read_text(encoding="utf-8").splitlines())
    return sorted(path.parent.name for path in found)


def family_module(family: str, name: str = "model") -> ModuleType:
    """The module `family.name`. Raises UserError naming the nearest family when there is no such family."""
    if family not in families():
        raise unknown("model family", family, families())
    return importlib.import_module(f"{family}.{name}")


def optional_module(family: str, name: str) -> ModuleType | None:
    """The module `family.name`, or None if the family does not have it."""
    if importlib.util.find_spec(f"{family}.{name}") is None:
        return None
    return family_module(family, name)


def variants(
    network: type[nn.Module],
    changes: Mapping[str, Mapping[str, Any]],
    internal: Collection[str] = (),
    loss: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Every hyper-parameter of each variant of a network: the module's defaults and what the variant changes.

    changes: variant -> its values of the fields that have no default in the Linen module `network` or differ from it.
    internal: fields that no config sets, besides `num_classes`; a field whose default is None is also internal in the
    variants that do not set it. loss: default options of the loss, which become the sub-section `loss`; a variant
    changes them with a dictionary of that name.
    """
    hidden = {"parent", "name", "num_classes", *internal}
    fields = {field.name: field.default for field in dataclasses.fields(network) if field.name not in hidden}
    defaults = {name: value for name, value in fields.items() if value not in (dataclasses.MISSING, None)}
    result = {}
    for variant, different in changes.items():
        strange = set(different) - set(fields) - ({"loss"} if loss else set())
        if strange:
            raise ValueError(f"variant '{variant}': {unknown(f'field of {network.__name__}', min(strange), fields)}")
        result[variant] = {**defaults, **different}
        if loss:
            result[variant]["loss"] = {**loss, **different.get("loss", {})}
    return result


def section(family: str, variant: str, **changes: Any) -> ConfigDict:
    """A config's `model` section: every hyper-parameter of `variant`, then `changes`."""
    known = family_module(family).VARIANTS
    if variant not in known:
        raise unknown(f"{family} variant", variant, known)
    fields = dict(known[variant])
    for name, value in changes.items():
        if name not in fields:
            raise unknown(f"{family} hyper-parameter", name, fields)
        if isinstance(fields[name], Mapping):
            for option in value if isinstance(value, Mapping) else [value]:
                if option not in fields[name]:
                    raise unknown(f"option of {family}'s {name}", option, fields[name])
            value = {**fields[name], **value}
        fields[name] = value
    return ConfigDict({"family": family, "variant": variant, **fields})


def upgraded(section: ConfigDict) -> ConfigDict:
    """A run's stored `model` section, possibly from an earlier version, in the form of this version.

    Newer hyper-parameters get their variant's values. Options of the loss, which used to be beside the network's, move
    into the sub-section `loss`, and the name of the loss becomes `loss.name`.
    """
    known = family_module(section.family).VARIANTS
    if section.variant not in known:
        raise unknown(f"{section.family} variant", section.variant, known)
    stored, loss = section.to_dict(), known[section.variant].get("loss")
    if loss and not isinstance(stored.get("loss"), Mapping):
        moved = {name: stored.pop(name) for name in loss if name in stored}
        stored["loss"] = loss | moved | ({"name": stored["loss"]} if "loss" in stored else {})
    return ConfigDict({"family": section.family, "variant": section.variant, **known[section.variant], **stored})


def init_options(family: str) -> dict[str, Any]:
    """The options that a family adds to `config.init`, with their defaults."""
    return dict(getattr(family_module(family), "INIT_OPTIONS", {}))


def check_init(family: str, section: ConfigDict) -> None:
    """Raises UserError for invalid values of the options that a family adds to `config.init`."""
    getattr(family_module(family), "check_init", lambda section: None)(section)


Range = tuple[float, float]  # the lowest value, and a bound that values stay below
# No network has numbers near these ends. Larger ones fill the memory or take hours to trace before anything fails.
COUNT, SIZE, SHARE, LAYERS = (1, 2**16), (0, 2**16), (0, 1), (1, 2**10)


def check_effects(
    section: ConfigDict, variants: Mapping[str, Mapping[str, Any]], needs: Mapping[str, tuple[bool, str]]
) -> None:
    """Raises UserError for a field that differs from the variant's value but has no effect in this section.

    needs: the field's path in the section -> whether it has an effect, and what it needs for one.
    """
    usual = ConfigDict(variants[section.variant])
    for path, (met, needed) in needs.items():
        value = operator.attrgetter(path)
        if not met and value(section) != value(usual):
            raise UserError(f"config.model.{path} has no effect without {needed}")


def hyper_parameters(
    section: ConfigDict,
    variants: Mapping[str, Mapping[str, Any]],
    choices: Mapping[str, Sequence],
    ranges: Mapping[str, Range],
) -> dict[str, Any]:
    """The fields of a `model` section, as a module takes them: with tuples where a config read from JSON has lists.

    variants: the family's; their values give each field's type. choices: the values that a field may have. ranges: the
    range of a number, or of each number of a tuple. Fields that the variant lacks are not checked. The sub-section
    `loss` is left out, since it is not a field of the module; the types of its options are checked. Raises UserError
    for an unknown variant or a forbidden value.
    """
    if section.variant not in variants:
        raise unknown(f"{section.family} variant", section.variant, variants)
    usual = dict(variants[section.variant])
    for name, default in usual.pop("loss", {}).items():
        _check_type(f"loss.{name}", section.loss[name], default)
    fields = {}
    for name, default in usual.items():
        value = section[name]
        if isinstance(value, list):
            value = tuple(value)
        if name in choices and value not in choices[name]:
            raise unknown(f"config.model.{name}", value, choices[name])
        _check_type(name, value, default)
        if name in ranges:
            check_range(name, value, *ranges[name])
        fields[name] = value
    return fields


_TYPES: dict[type, tuple[type | tuple[type, ...], str]] = {  # type of a default: the types that fit it, and their name
    bool: (bool, "Boolean"),
    int: (int, "whole number"),
    float: ((int, float), "number"),
    str: (str, "text"),
}


def _check_type(name: str, value: Any, default: Any) -> None:
    """Raises UserError for a value in `config.model` of another type than the variant's; an empty tuple is of ints."""
    many = isinstance(default, tuple)
    kind = type(next(iter(default), 0)) if many else type(default)
    if kind not in _TYPES:
        return
    types, word = _TYPES[kind]
    elements = value if many and isinstance(value, tuple) else (value,)
    fit = all(isinstance(element, types) and isinstance(element, bool) == (kind is bool) for element in elements)
    if not fit or isinstance(value, tuple) != many:
        raise UserError(f"config.model.{name} is {value!r}; expected a {f'tuple of {word}s' if many else word}")


def check_range(name: str, value: float | tuple[float, ...], low: float, below: float) -> None:
    """Raises UserError unless a number in `config.model`, or each number of a tuple, is in the range."""
    if not all(low <= number < below for number in (value if isinstance(value, tuple) else (value,))):
        bound = f" and less than {below}" if below < math.inf else ""
        raise UserError(f"config.model.{name} is {value}; expected at least {low}{bound}")


def check(section: ConfigDict) -> None:
    """Raises UserError for a `model` section that describes no network; tries it with ten classes."""
    _family_of(section).network(section, 10)


def check_stages(name: str, blocks: tuple[int, ...], width: int) -> None:
    """Raises UserError if a network of stages, each twice as wide as the one before, would be too deep or too wide.

    name: of the field of `config.model` that has the number of blocks in each stage. width: channels of the first.
    """
    if sum(blocks) >= LAYERS[1]:
        raise UserError(f"config.model.{name} has {sum(blocks)} blocks; expected less than {LAYERS[1]}")
    widest = width * 2 ** max(len(blocks) - 1, 0)
    if widest >= COUNT[1]:
        stages = f"{len(blocks)} stages, the last with {widest} channels"
        raise UserError(f"config.model.{name} has {stages}; expected less than {COUNT[1]}")


def make_classifier(section: ConfigDict, info: Facts) -> Classifier:
    """The classifier of a `model` section for a dataset with these facts. Raises UserError if the two do not fit."""
    return _family_of(section).make_classifier(section, info)


def _family_of(section: ConfigDict) -> ModuleType:
    if not section.get("family"):
        raise UserError("config.model is empty: a config file sets it with models.section(family, variant)")
    return family_module(section.family)
