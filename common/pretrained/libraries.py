"""Variables under the names of another library's networks, for `python -m common.weights export`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from common import models
from common.errors import UserError, listed


def for_library(family: str, variables: PyTree, module: nn.Module, library: str) -> tuple[dict[str, np.ndarray], str]:
    """Variables by the names of a library's networks, and the difference of these from `module`, or ''.

    Raises UserError for a library whose names this network cannot have.
    """
    weights = models.optional_module(family, "weights")
    arrays, known = {}, ()
    if weights is not None and hasattr(weights, "sources"):
        by_library = getattr(weights, "to_library", None)
        arrays = by_library(variables, module, library) if by_library else weights.to_published(variables, module)
        known = weights.sources(arrays or {})
    if weights is None or library not in known:
        raise UserError(
            f"--source is '{library}', whose names {family}'s networks cannot have here; expected "
            f"{listed(known) if known else 'none, which writes our own names'}"
        )
    return arrays, weights.mismatch(library, arrays, module, {}).partition(": ")[0]


def differences(family: str, arrays: Mapping[str, np.ndarray], module: nn.Module) -> tuple[str, str]:
    """The publisher whose names these arrays have, and the difference of its network from `module`.

    Both are '' for names that are our own, and where one of the publishers has this very network.
    """
    weights: Any = models.optional_module(family, "weights")
    known = weights.sources(arrays) if hasattr(weights, "sources") else ()
    reasons = [weights.mismatch(publisher, arrays, module, {}).partition(": ")[0] for publisher in known]
    return (known[0], reasons[0]) if known and all(reasons) else ("", "")
