"""The lecture: its identities and exercises, checked with the code of the networks here, and pictures drawn with it."""

from common import errors
from common.command_line import commands

with errors.reporting_user_errors():
    commands.check_start("lecture")
