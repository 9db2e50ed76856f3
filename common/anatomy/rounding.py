"""Numbers as a paper prints them: '159K', '1.5B', '0.27M', '81%'."""

import re

_UNITS = {"": 1, "%": 0.01, "K": 10**3, "M": 10**6, "B": 10**9}


def rounded_like(value: float, text: str) -> str | None:
    """The value with the unit and the decimal places of a printed number; None if `text` is no such number."""
    found = re.fullmatch(r"\d+\.?(\d*)([%KMB]?)", text)
    return found and f"{value / _UNITS[found[2]]:.{len(found[1])}f}{found[2]}"
