"""A section of data options, and the folder of real data, for the tests of data."""

import pathlib
from collections.abc import Callable

import pytest
from ml_collections import ConfigDict

from common import config


@pytest.fixture
def data_config() -> Callable[..., ConfigDict]:
    """Makes a `data` section from its defaults and changes."""

    def make(**changes) -> ConfigDict:
        section = config.base(ConfigDict()).data
        section.update(changes)
        return section

    return make


@pytest.fixture
def shared_data() -> pathlib.Path:
    """Real data beside the repository; a test that needs it is skipped elsewhere."""
    folder = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real datasets in {folder}")
    return folder
