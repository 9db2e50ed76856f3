"""From a config's `model` section to a classifier that the loop can train, whatever its family.

A family is a package at the top level (`lenet`, `resnet`, ...) whose `model.py` has

    VARIANTS: dict[str, dict]            name -> every hyper-parameter of that network
    make_classifier(config, info) -> Classifier   the network for a `model` section and a dataset's facts

Nothing else in `common` knows a family: adding one is adding a folder and a config.
"""

import dataclasses
import importlib
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from common.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A network, what it is trained to minimise, and how to read a class off its output.

    module: Linen module called as `module.apply(variables, images, train=...)` on NHWC images; its output may
        be any tree (logits, penalties, main and auxiliary heads).
    loss: (outputs, labels) -> one loss per example; labels are class indices `[batch]` or, with `soft_labels`,
        also distributions over classes `[batch, classes]`.
    logits: outputs -> `[batch, classes]`, larger is likelier.
    input_shape: (height, width, channels) of one image.
    num_classes: how many classes it tells apart.
    soft_labels: whether the loss takes distributions.
    curvature: (params, images, labels) -> a tree like `params` with the diagonal of the Gauss-Newton matrix, for
        optimizers that need it; None for networks that do not provide it.
    remark: what a run is to say of the network when it starts.
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
    """Names of the families that stand beside `common`."""
    root = pathlib.Path(__file__).parent.parent
    return sorted(path.parent.name for path in root.glob("*/model.py"))


def family_module(family: str, name: str = "model") -> ModuleType:
    """The module `family.name`; UserError naming the nearest family when there is no such family."""
    if family not in families():
        raise unknown("model family", family, families())
    return importlib.import_module(f"{family}.{name}")


def section(family: str, variant: str, **changes: Any) -> ConfigDict:
    """A config's `model` section: every hyper-parameter of `variant`, then `changes`."""
    variants = family_module(family).VARIANTS
    if variant not in variants:
        raise unknown(f"{family} variant", variant, variants)
    fields = dict(variants[variant])
    for name in changes:
        if name not in fields:
            raise unknown(f"{family} hyper-parameter", name, fields)
    return ConfigDict({"family": family, "variant": variant, **fields, **changes})


Range = tuple[float, float]  # what a number is at least, and less than
COUNT, SIZE, SHARE = (1, math.inf), (0, math.inf), (0, 1)


def hyper_parameters(
    config: ConfigDict,
    variants: Mapping[str, Mapping[str, Any]],
    choices: Mapping[str, Sequence],
    ranges: Mapping[str, Range],
) -> dict[str, Any]:
    """Every field of a `model` section but its names, as a module takes them: tuples where a file's config has lists.

    variants: the family's. choices: the values of fields that have a choice; ranges: of numbers and of each number in
    a tuple, which are whole; of fields that the variant has not, nothing is asked. UserError for an unknown variant
    and for values that are not allowed.
    """
    if config.variant not in variants:
        raise unknown(f"{config.family} variant", config.variant, variants)
    given = {name: config[name] for name in variants[config.variant]}
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name, value in fields.items():
        if name in choices and value not in choices[name]:
            raise unknown(f"config.model.{name}", value, choices[name])
        if name in ranges:
            _check_range(name, value, *ranges[name])
    return fields


def _check_range(name: str, value: Any, low: float, below: float) -> None:
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(low <= number < below for number in numbers):
        bound = f" and less than {below}" if below < math.inf else ""
        raise UserError(f"config.model.{name} is {value}; expected at least {low}{bound}")
    if isinstance(value, tuple) and not all(isinstance(number, int) for number in numbers):
        raise UserError(f"config.model.{name} is {value}; expected whole numbers")


def make_classifier(config: ConfigDict, info: Any) -> Classifier:
    """The classifier that a `model` section describes, for a dataset with these facts (`datasets.Info`)."""
    if not config.family:
        raise UserError("config.model is empty: a config file sets it with models.section(family, variant)")
    return family_module(config.family).make_classifier(config, info)
