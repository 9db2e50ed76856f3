"""Measurements of speed, as ratios within one run, and of the faults and damages that runs survive."""

from common import errors
from common.command_line import commands

with errors.reporting_user_errors():
    commands.check_start("benchmarks")
