"""The libraries that benchmarks race against: whether they are installed, and their versions."""

import importlib.metadata
import importlib.util
from collections.abc import Iterable, Mapping

from common.errors import UserError, unknown

Libraries = Mapping[str, tuple[str, str]]  # the name in --peers -> its package, and the extra that installs it


def check(peers: Iterable[str], libraries: Libraries) -> None:
    """Raises UserError for a library that is unknown or not installed."""
    for peer in peers:
        if peer not in libraries:
            raise unknown("library", peer, libraries)
        package, extra = libraries[peer]
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--peers has {peer}, and {package} is not installed: pip install -e '.[{extra}]'")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The installed version of each package."""
    return {package: importlib.metadata.version(package) for package in packages}
