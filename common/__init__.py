"""The code that all architectures share: configuration, data, the training loop and the tools around it."""

from common import commands, errors

with errors.reported():
    commands.check_start("common")
