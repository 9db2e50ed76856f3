"""The publishers of weights, recognised by the names in a file, and their conventions (`config.init.source`).

Names and shapes do not show everything: the place of a stride, a GELU's approximation. A family's `weights.py` knows
its publishers' choices and may have

    sources(arrays) -> names     the publishers whose names these arrays have
    mismatch(source, arrays, module, facts) -> sentence    the difference of that publisher's network from ours, and the
                                                           variant or option that fixes it; '' for none

`facts` are what the config.json of a folder says of the network. If it lacks `architecture`, timm's name for the
network, the file's name takes its place, since the names of timm's files begin with it.
"""

import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from flax import linen as nn

from common.errors import UserError, listed
from common.pretrained import hugging_face


def different(network: str, module: nn.Module, theirs: Mapping[str, tuple[Any, str]]) -> str:
    """A sentence for `mismatch`: the fields in which a publisher's `network` differs from the module, or ''.

    theirs: for each field the publisher's value and what its network then has.
    """
    wrong = {field: (value, said) for field, (value, said) in theirs.items() if getattr(module, field) != value}
    if not wrong:
        return ""
    *others, last = (said for _, said in wrong.values())
    said = " and ".join(filter(None, [", ".join(others), last]))
    options = " and ".join(f"config.model.{field}={value}" for field, (value, _) in wrong.items())
    return f"{network} has {said}: set {options}"


def check(
    weights: ModuleType, arrays: Mapping[str, np.ndarray], module: nn.Module, source: str, path: pathlib.Path
) -> None:
    """Raises UserError for a file without the names of `source`, or whose publisher's network differs from `module`.

    source: `config.init.source`. 'auto' goes by the names; 'own' is a file of the config's very network, whose
    conventions are not compared.
    """
    if source == "own" or not hasattr(weights, "sources"):
        return
    found = weights.sources(arrays)
    if source not in ("auto", *found):
        theirs = f"but those of {listed(found)}" if found else "nor those of any other publisher"
        raise UserError(f"{path} does not have the names of config.init.source '{source}', {theirs}")
    candidates = found if source == "auto" else (source,)
    facts = {"architecture": path.name, **hugging_face.facts(path)}
    reasons = [weights.mismatch(name, arrays, module, facts) for name in candidates]
    if reasons and all(reasons):
        raise UserError(f"{path}: {reasons[0]}; if it is a network of your own, set config.init.source=own")
