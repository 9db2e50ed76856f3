"""Describers by name: functions from a batch of images to their descriptors, and the options of each."""

from typing import Any

from classic.descriptors import dense_sift, hog, patches, pixels, sift
from classic.descriptors.record import Describer, Descriptors
from classic.options import Range

__all__ = ["CHOICES", "DEFAULTS", "DESCRIBERS", "RANGES", "Describer", "Descriptors"]

_MODULES = {"sift": sift, "dense_sift": dense_sift, "hog": hog, "patches": patches, "pixels": pixels}

DESCRIBERS: dict[str, Describer] = {name: module.describe for name, module in _MODULES.items()}
DEFAULTS: dict[str, dict[str, Any]] = {name: module.DEFAULTS for name, module in _MODULES.items()}
CHOICES: dict[str, dict[str, tuple]] = {name: module.CHOICES for name, module in _MODULES.items()}
RANGES: dict[str, dict[str, Range]] = {name: module.RANGES for name, module in _MODULES.items()}
