"""The code that all architectures share: configuration, data, the training loop and the tools around it."""

from common import errors
from common.command_line import commands

with errors.reporting_user_errors():
    commands.check_start("common")
