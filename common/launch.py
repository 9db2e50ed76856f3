"""The start of every tool: parses flags, reports mistakes in one line, and imports nothing slow before that."""

import contextlib
import errno
import functools
import inspect
import io
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from logging import ERROR, LogRecord
from typing import Any

from absl import app, flags, logging

from common import errors
from common.command_line import config_files, mistakes, option_names, unparsed, usage
from common.devices import large_pages
from common.errors import UserError

EXIT_INTERRUPTED = 130  # a shell's code for Ctrl-C
EXIT_UNREAD = 141  # a shell's code for a program whose output nobody reads any more
_LEAVING_SECONDS = 5.0  # time for the threads of a failed tool to finish

_TOO_BIG = ("array is too big", "Maximum allowed")  # NumPy's words for an array that no memory could hold


def define_config(example: str = "configs/lenet5_digits.py", lists: str = "common/config.py") -> flags.Flag:
    """The flag `--config=FILE[:ARGUMENT]` and, for each option in it, `--config.SECTION.OPTION=VALUE`.

    example: a config that the tool takes. lists: the file that lists its options.
    """
    from ml_collections import config_flags

    if "config" not in flags.FLAGS:  # another tool's module may have been imported in the same process
        text = f"config file, such as {example}; --config.SECTION.OPTION=VALUE changes one of its options"
        config_flags.DEFINE_config_file("config", None, f"{text}, which {lists} lists")
    return _key_flag("config")


def given_options() -> dict[str, Any]:
    """The options of the config that the command line gives, by path, such as 'train.batch_size'."""
    from ml_collections import config_flags

    return config_flags.get_override_values(flags.FLAGS["config"])


def define_checkpoint() -> flags.FlagHolder[str]:
    """The flag `--checkpoint=best|last|STEP` of the tools that open a trained run."""
    if "checkpoint" not in flags.FLAGS:  # another tool's module may have been imported in the same process
        text = "checkpoint of the run: best (lowest error), last, or a step; default: best if the run has a validation "
        flags.DEFINE_string("checkpoint", "", f"{text}set, else last", allow_override=True)
    return flags.FlagHolder(flags.FLAGS, _key_flag("checkpoint"), ensure_non_none_value=True)


def _key_flag(name: str) -> flags.Flag:
    """Lists a shared flag in the --help of the command whose module is two calls up; returns the flag."""
    module = sys._getframe(2).f_globals["__name__"]
    flags.FLAGS.register_key_flag_for_module(usage.absl_module_name(module), flags.FLAGS[name])
    return flags.FLAGS[name]


def define_pictures() -> None:
    """Defines the flags `--pictures=DIR` and `--picture_format=png|svg` of the tools that write pages."""
    if "pictures" not in flags.FLAGS:  # another tool's module may have been imported in the same process
        flags.DEFINE_string("pictures", None, "folder for the page's pictures, a file for each; default: none")
        flags.DEFINE_enum("picture_format", "png", ["png", "svg"], "format of the files in --pictures")
    _key_flag("pictures")
    _key_flag("picture_format")


def run(main: Callable[..., None]) -> None:
    """Runs a tool's `main` on the names after its flags, if it takes any.

    A `UserError` is one line and exit code 2, Ctrl-C one line and exit code 130. If the reader of the output leaves, as
    `| head` does, the tool ends with code 141.
    """
    large_pages.use()
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold any bytes, and are printed unchanged
        sys.stdout.reconfigure(errors="surrogateescape")
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().addFilter(_is_for_the_user)
    sys.unraisablehook = _ignore_abandoned_writes
    with _without_stuck_threads():
        try:
            with errors.reporting_user_errors(), _reporting_limits():
                names = bool(inspect.signature(main).parameters)
                try:
                    app.run(lambda argv: main(*argv[1:]), flags_parser=functools.partial(parse, takes_names=names))
                finally:
                    sys.stdout.flush()
        except KeyboardInterrupt:  # pressed before a run watches for it, or a second time
            print("stopped by Ctrl-C", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            if _is_read():
                raise  # it was another pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it ends
            sys.exit(EXIT_UNREAD)


def _is_read() -> bool:
    """False if the reader of the standard output has left."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return False
    return True


@contextlib.contextmanager
def _without_stuck_threads() -> Iterator[None]:
    """Ends a failed process within seconds, even if its threads are still busy.

    Python waits for threads, and Orbax's wait for minutes for a checkpoint's folder, even if it could not be made.
    """
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 1
        if code:
            # A daemon, so it does not delay a process that ends by itself.
            threading.Thread(target=_exit_later, args=(code if isinstance(code, int) else 1,), daemon=True).start()
        raise


def _exit_later(code: int) -> None:
    time.sleep(_LEAVING_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def _reporting_limits() -> Iterator[None]:
    """Turns a path that is too long, or a lack of memory on the host or on a device, into a `UserError`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise UserError(f"the path '{error.filename}' is too long") from error
        text = str(error)
        on_host = isinstance(error, MemoryError) or (isinstance(error, ValueError) and text.startswith(_TOO_BIG))
        if not on_host and not ("RESOURCE_EXHAUSTED" in text and "memory" in text):
            raise
        said = text.strip().splitlines()[0][:200] if text.strip() else "no room for an array"
        raise UserError(
            f"out of memory: {said}; a smaller config.train.batch_size or evaluate.batch_size needs less, and so does "
            "a larger config.train.accumulate"
        ) from error


def _is_for_the_user(record: LogRecord) -> bool:
    """False for libraries' warnings about how they were called, and for errors that they both log and raise."""
    library = "site-packages" in record.pathname or record.name == "asyncio"  # only libraries use asyncio here
    return not library or (record.levelno >= ERROR and not record.exc_info)


def _ignore_abandoned_writes(unraisable: "sys.UnraisableHookArgs") -> None:
    """Ignores a checkpoint's write whose event loop was closed because another write failed, which is reported."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def end_with_pipe() -> None:
    """Lets `| head` end this program without a traceback, as it ends others."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def config_name() -> str:
    """The config file's name without folder and suffix, then its argument, if any.

    Of each path between the argument's colons only the last part counts: 'folder_resnet:resnet18:pets' for
    configs/folder.py:resnet:resnet18:/photos/pets.
    """
    path, *arguments = (unparsed.flag_text(sys.argv, "config") or "").split(":")
    named = ":".join(filter(None, (pathlib.Path(argument).name for argument in arguments)))
    return "_".join(filter(None, (pathlib.Path(path).stem, named)))


def parse(argv: Sequence[str], takes_names: bool = False) -> list[str]:
    """Sets the flags from a command line; returns the program and its other arguments. Raises UserError for a mistake.

    takes_names: whether the command reads names after its flags. `--help` prints the command's help and exits.
    """
    from ml_collections import ConfigDict

    if usage.asks_for_help(argv):
        end_with_pipe()
        print(usage.text(sys.modules["__main__"]))
        sys.exit(0)
    config = unparsed.flag_text(argv, "config")
    if sum(argument.partition("=")[0] in ("--config", "-config") for argument in argv) > 1:
        raise UserError("--config is given more than once; an experiment has one config")
    path = config_files.find(config) if config is not None else pathlib.Path()
    argv = _with_config(argv, config or "", path)
    try:
        rest = flags.FLAGS(argv)
    except UserError:
        raise
    except SystemExit:  # --helpfull, which is no mistake
        sys.exit(0)
    except Exception as error:
        raise UserError(mistakes.in_config_file(path, error) or mistakes.on_command_line(argv, error)) from error
    if config is not None and not isinstance(flags.FLAGS["config"].value, ConfigDict):
        raise UserError(f"{path}: get_config() does not return a ConfigDict; start from common.config.base()")
    option_names.check_changeable(given_options() if config is not None else ())
    if len(rest) > 1 and not takes_names:
        raise UserError(f"unexpected argument '{rest[1]}'; options are given as --name=value")
    return rest


def _with_config(argv: Sequence[str], config: str, path: pathlib.Path) -> list[str]:
    """The command line with the config file's path in place of the name given."""
    name, colon, rest = config.partition(":")
    if path == pathlib.Path(name):
        return list(argv)
    found = f"{path}{colon}{rest}"
    others = {f"--config={config}": f"--config={found}", f"-config={config}": f"--config={found}", config: found}
    return [argv[0], *(others.get(argument, argument) for argument in argv[1:])]
