"""Named choices in a config section, and the check that the choice reads every option that is set."""

import dataclasses
from collections.abc import Callable

from ml_collections import ConfigDict

from common.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class Entry:
    """One choice: the function that builds it, and the options of its section that it reads besides the shared ones."""

    build: Callable
    reads: tuple[str, ...] = ()


def check(config: ConfigDict, defaults: ConfigDict, section: str, known: dict[str, Entry], shared: tuple) -> None:
    """Raises UserError for a section whose `name` is unknown, or has changed options that its choice does not read."""
    chosen = config[section]
    if chosen.name not in known:
        raise unknown(section, chosen.name, known)
    reads = {*shared, *known[chosen.name].reads}
    for key in sorted(set(chosen) - reads - {"name"}):
        if chosen[key] != defaults[section][key]:
            raise UserError(
                f"config.{section}.{key} is set, but {section} '{chosen.name}' does not read it "
                f"(it reads: {', '.join(sorted(reads))})"
            )
