"""Fonts for the names in pictures: Matplotlib's own lacks many scripts, such as Chinese, Japanese and Korean."""

import functools
import sys
import warnings

import matplotlib
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties

_PLACEHOLDERS = "Last Resort"  # Matplotlib's font with a box for every character

warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # `prepare` says it in one line


def prepare(text: str) -> None:
    """Adds the installed fonts that a text needs to Matplotlib's; warns once if no font has one of its characters."""
    if text.isascii():
        return
    for character in text:
        family = _family_with(character)
        if family is None:
            _say_missing()
        elif family not in matplotlib.rcParams["font.family"]:
            matplotlib.rcParams["font.family"] = [*matplotlib.rcParams["font.family"], family]


@functools.cache
def _family_with(character: str) -> str | None:
    """The first family of fonts that has a character, of those in use or else of those that are installed."""
    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist if _is_upright(font)}
    in_use = {name: font_manager.findfont(FontProperties(family=[name])) for name in matplotlib.rcParams["font.family"]}
    for family, file in {**in_use, **dict(sorted(installed.items()))}.items():
        if font_manager.get_font(file).get_char_index(ord(character)):
            return family
    return None


def _is_upright(font: font_manager.FontEntry) -> bool:
    return font.style == "normal" and font.weight in (400, "normal") and _PLACEHOLDERS not in font.name


@functools.cache
def _say_missing() -> None:
    print(
        "pictures show boxes for characters that no installed font has; a font such as Noto Sans CJK has many",
        file=sys.stderr,
        flush=True,
    )
