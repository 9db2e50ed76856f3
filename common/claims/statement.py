"""The common part of measured claims and exact facts: a paper's statement, and the package that declares it."""

import contextlib
import dataclasses
import functools
import importlib

from common.errors import UserError
from common.files import ROOT

_KINDS = ("claims", "facts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statement:
    """A paper's statement that can be checked.

    id: its name, such as 'resnet-cifar-20'. where: paper, then section, table or figure. says: the statement in a
    sentence. unit: how to print its numbers; '%' for fractions.
    """

    id: str
    where: str
    says: str
    unit: str = ""


@functools.cache
def declared() -> dict[str, dict[str, list[Statement]]]:
    """Every statement: kind ('claims', 'facts') -> package -> its list, CLAIMS of claims.py or FACTS of facts.py.

    A package is left out if importing it raises a UserError, because its libraries are not installed. Raises ValueError
    if two statements have the same id.
    """
    found: dict[str, dict[str, list[Statement]]] = {kind: {} for kind in _KINDS}
    ids: set[str] = set()
    for kind, packages in found.items():
        for path in sorted(ROOT.glob(f"*/{kind}.py")):
            with contextlib.suppress(UserError):
                module = importlib.import_module(f"{path.parent.name}.{kind}")
                packages[path.parent.name] = getattr(module, kind.upper())
                for statement in packages[path.parent.name]:
                    if statement.id in ids:
                        raise ValueError(f"two statements are called {statement.id}")
                    ids.add(statement.id)
    return found


def by_id(kind: str) -> dict[str, Statement]:
    """The statements of a kind, 'claims' or 'facts', by id."""
    return {one.id: one for statements in declared()[kind].values() for one in statements}


def packages_by_id() -> dict[str, str]:
    """The package that declares each statement, by the statement's id."""
    return {
        one.id: package
        for declaring in declared().values()
        for package, statements in declaring.items()
        for one in statements
    }
