"""Names of commands and configs, the nearest ones to a wrong name, and the text of `--help`."""
