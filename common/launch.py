"""How every tool starts: flags parsed, mistakes reported in one line, nothing slow imported before that."""

import difflib
import pathlib
import re
import sys
from collections.abc import Callable
from logging import ERROR, LogRecord

from absl import app, flags, logging

from common import errors
from common.errors import UserError


def define_config() -> flags.Flag:
    """The flag `--config=FILE[:ARGUMENT]` and, for each option in it, `--config.SECTION.OPTION=VALUE`."""
    from ml_collections import config_flags

    if "config" not in flags.FLAGS:  # another tool's module may have been imported in the same process
        config_flags.DEFINE_config_file("config", None, "config file, such as configs/lenet5_digits.py")
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS["config"])  # so that --help shows it
    return flags.FLAGS["config"]


def run(main: Callable[..., None]) -> None:
    """Run a tool's `main`, on the names after its flags if it takes any; a `UserError` is one line and exit code 2."""
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().addFilter(_concerns_the_user)
    with errors.reported():
        app.run(lambda argv: main(*argv[1:]), flags_parser=_parse)


def _concerns_the_user(record: LogRecord) -> bool:
    """Libraries' remarks on how they were called are not the user's; their errors are."""
    return record.levelno >= ERROR or "site-packages" not in record.pathname


def config_name() -> str:
    """The config file's name without its folder and ending, with its argument if it has one."""
    path, _, argument = _config_argument(sys.argv).partition(":")
    return "_".join(filter(None, (pathlib.Path(path).stem, argument)))


def _parse(argv: list[str]) -> list[str]:
    _check_config_file(argv)
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise UserError(_message(str(error))) from error
    except (AttributeError, KeyError) as error:
        raise _unknown_option(argv, str(error)) from error
    if len(rest) > 1 and not _takes_arguments():
        raise UserError(f"unexpected argument '{rest[1]}'; options are given as --name=value")
    return rest


def _takes_arguments() -> bool:
    """Whether the tool reads names after its flags, which it says by `TAKES_ARGUMENTS = True` in its module."""
    return getattr(sys.modules["__main__"], "TAKES_ARGUMENTS", False)


def _config_argument(argv: list[str]) -> str:
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "config" and argument.startswith("-"):
            return value if equals else following
    return ""


def _check_config_file(argv: list[str]) -> None:
    """ml_collections takes a missing file for an empty config, so look first."""
    given = _config_argument(argv).partition(":")[0]
    if given and not pathlib.Path(given).is_file():
        known = sorted(str(path) for path in pathlib.Path("configs").glob("[!_]*.py"))
        close = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
        raise UserError(f"no config file '{given}'" + (f"; did you mean '{close[0]}'?" if close else ""))


def _unknown_option(argv: list[str], message: str) -> UserError:
    name = re.match(r"['\"\\]*(\w+)", message)
    suggestion = re.search(r'Did you mean "(\w+)"', message)
    given = next((a for a in argv if name and f".{name[1]}" in a.partition("=")[0]), message.splitlines()[0])
    hint = f"; did you mean '{suggestion[1]}'?" if suggestion else "; common/config.py lists every option"
    return UserError(f"unknown option '{given.partition('=')[0]}'{hint}")


def _message(text: str) -> str:
    """The part of absl's message that says what is wrong; errors inside config files come with a traceback."""
    ours = re.findall(r"UserError: (.*)", text)
    if ours:
        return ours[-1]
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return f"{lines[0]} {lines[-1]}" if "Traceback" in text else lines[0]
