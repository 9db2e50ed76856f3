"""A page of text and pictures as one self-contained HTML file, with its styles and pictures inside."""

import base64
import dataclasses
import functools
import html
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from common.files import as_text

_PIXELS_PER_INCH = 96  # of CSS
_SMALLEST_WIDTH = 560  # pixels; on narrower screens a picture is scrolled sideways, not shrunk further

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: #fff; color: #1a1a1a;
       font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 1px solid #ddd; }
p { margin: .25rem 0 1rem; max-width: 52rem; }
.caption { color: #444; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; padding: 0;
           margin: 1.5rem 0; list-style: none; }
.numbers li { border: 1px solid #ddd; border-radius: .5rem; padding: .6rem .8rem; }
.numbers b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.numbers span { color: #555; font-size: .875rem; line-height: 1.35; display: block; margin-top: .2rem; }
.scroll { overflow-x: auto; }
.scroll img { display: block; height: auto; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: 1.1rem .9rem;
            padding: 0; margin: 1rem 0; list-style: none; }
.examples img { display: block; width: 100%; image-rendering: pixelated; border-radius: .25rem; background: #eee; }
.examples span { display: block; font-size: .85rem; line-height: 1.35; margin-top: .3rem; overflow-wrap: anywhere; }
.table { columns: 20rem; column-gap: 2.5rem; margin: 0; font-size: .9rem; }
.table div { display: flex; justify-content: space-between; gap: 1rem; padding: .2rem 0; border-bottom: 1px solid #eee;
             break-inside: avoid; }
.cells { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
.cells th { text-align: left; color: #555; font-weight: 600; }
.cells th, .cells td { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #eee; vertical-align: top; }
dt { color: #555; }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: #00568a; }
"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure on a page, and its alternative text."""

    figure: Figure
    description: str

    @functools.cached_property
    def png(self) -> bytes:
        """The figure as a PNG file."""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=1.5 * _PIXELS_PER_INCH)
        return file.getvalue()


class Example(NamedTuple):
    """A small image above two lines of text."""

    image: UInt8[np.ndarray, "height width *colours"]
    first: str
    second: str


class Gallery(NamedTuple):
    """Small images in rows."""

    examples: Sequence[Example]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    name: its anchor, and the name of its pictures' files. caption: a few sentences as plain text. parts: what follows;
    strings are HTML.
    """

    name: str
    title: str
    caption: str
    parts: Sequence[str | Picture | Gallery] = ()


def document(title: str, parts: Iterable[str]) -> str:
    """The whole file; `title` is plain text, `parts` are HTML."""
    return as_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def section(content: Section) -> str:
    """A section as HTML, with its pictures inside."""
    heading = f'<section id="{content.name}">\n<h2>{html.escape(content.title)}</h2>\n'
    return heading + paragraph(content.caption) + "\n".join(map(_part, content.parts)) + "\n</section>"


def _part(part: str | Picture | Gallery) -> str:
    if isinstance(part, str):
        return part
    return picture(part) if isinstance(part, Picture) else gallery(part)


def paragraph(text: str) -> str:
    """A paragraph of text."""
    return f'<p class="caption">{html.escape(text)}</p>\n'


def three_digits(value: float) -> str:
    """A number as text, with three digits or with all those before its point."""
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def numbers(pairs: Sequence[tuple[str, str]]) -> str:
    """The headline numbers from pairs of name and value, each value above its name."""
    items = (f"<li><b>{html.escape(value)}</b><span>{html.escape(name)}</span></li>" for name, value in pairs)
    return f'<ul class="numbers">{"".join(items)}</ul>'


def table(rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and values, in several columns if there is room."""
    cells = (f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in rows)
    return f'<dl class="table">{"".join(cells)}</dl>'


def cells(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a heading over each column; it scrolls sideways if it is too wide."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heading)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="cells"><tr>{head}</tr>{body}</table></div>'


def folded(title: str, content: str) -> str:
    """HTML that is hidden until the reader opens it."""
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"


def picture(content: Picture) -> str:
    """A figure at its own size, or smaller on narrow screens."""
    width = round(content.figure.get_figwidth() * _PIXELS_PER_INCH)
    style = f"width: 100%; max-width: {width}px; min-width: {min(width, _SMALLEST_WIDTH)}px"
    return f'<div class="scroll">{_image(content.png, content.description, style)}</div>'


def gallery(content: Gallery) -> str:
    """Small images, each above its two lines of text."""
    cells = []
    for image, first, second in content.examples:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="PNG")
        text = f"<span><b>{html.escape(first)}</b><br>{html.escape(second)}</span>"
        cells.append(f"<li>{_image(file.getvalue(), f'{first}, {second}')}{text}</li>")
    return f'<ul class="examples">{"".join(cells)}</ul>'


def _image(png: bytes, description: str, style: str = "") -> str:
    style = f' style="{style}"' if style else ""
    encoded = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(description)}"{style} src="data:image/png;base64,{encoded}">'
