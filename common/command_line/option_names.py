"""The options that a person may have meant by one that does not exist."""

from collections.abc import Iterable

from common.errors import UserError, nearest

# Options that only name a network; `models.section` has written its hyper-parameters beside them.
_NAMES = ("model.family", "model.variant")


def check_changeable(paths: Iterable[str]) -> None:
    """Raises UserError for an option that names the network, since its hyper-parameters would stay as they are."""
    if named := [path for path in paths if path in _NAMES]:
        raise UserError(
            f"config.{named[0]} only names the network that the config file has made; choose another by the file's "
            "argument, as --config=configs/resnet_cifar10.py:resnet56, or change the options of config.model"
        )


def instead(path: str, known: Iterable[str], prefix: str = "") -> str:
    """The option that an unknown one may stand for or, if none is like it, the names in its section.

    path: 'optimizer.learning_rate'; known: every option by its path; prefix: what is written before a path.
    An option of the same name in another section comes first: here 'schedule.learning_rate'.
    """
    names = sorted(known)
    section, _, option = path.rpartition(".")
    while section and not any(name.startswith(f"{section}.") for name in names):
        section = section.rpartition(".")[0]
    start = f"{section}." if section else ""
    inside = sorted({name.removeprefix(start).partition(".")[0] for name in names if name.startswith(start)})
    if same := [name for name in names if name.rpartition(".")[2] == option]:
        return f"did you mean '{prefix}{nearest(path, same, least=0.0)}'?"
    if close := nearest(option, inside, least=0.6):
        return f"did you mean '{prefix}{start}{close}'?"
    return f"{prefix}{start}".removesuffix(".") + f" has {', '.join(inside)}"
