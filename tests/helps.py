"""The help and the options of commands, printed as JSON: `python -m tests.helps COMMAND ...`.

It runs in a process of its own, because commands that are imported side by side take each other's flags.
"""

import importlib
import json
import sys

from common.command_line import usage


def module(command):
    """The module of a command; for a package, its `__main__`."""
    found = importlib.import_module(command)
    return importlib.import_module(f"{command}.__main__") if hasattr(found, "__path__") else found


if __name__ == "__main__":
    modules = {command: module(command) for command in sys.argv[1:]}
    print(
        json.dumps(
            {
                command: {
                    "text": usage.text(found),
                    "options": [flag.name for flag in usage.options(found.__name__)],
                }
                for command, found in modules.items()
            }
        )
    )
