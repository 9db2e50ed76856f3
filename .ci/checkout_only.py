"""The build backend: setuptools' for editable installs, and one line in place of any other build.

The packages here have names such as `common`, `configs` and `tests`, which belong in no other project's environment,
and runs read configs, results and documents from the folders around them.
"""

import sys

from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    prepare_metadata_for_build_editable,
)

__all__ = ["build_editable", "get_requires_for_build_editable", "prepare_metadata_for_build_editable"]

ONE_LINE = "error: Lineage is used from a checkout: clone the repository, then give pip install -e . in its folder"


def _refuse(*_: object, **__: object) -> None:
    """Ends the build with one line, which an installer shows; before it has downloaded any dependency."""
    sys.exit(ONE_LINE)


get_requires_for_build_wheel = get_requires_for_build_sdist = _refuse
prepare_metadata_for_build_wheel = build_wheel = build_sdist = _refuse
