"""The assembly of a report: a line on standard error for each section, and its pictures as separate files."""

import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from absl import flags
from matplotlib.figure import Figure

from common.files import user_path, whole_file, writing
from common.report import page
from common.report.figures import finish_tiles, tile_image
from common.report.page import Gallery, Picture, Section

_COLUMNS = 8  # of a gallery

# The title of one or several sections, and the function that makes them; the list is empty if there is nothing to show.
Step = tuple[str, Callable[[], Section | Sequence[Section]]]


def folder_from_flags() -> "PictureFolder | None":
    """The folder of `--pictures` (`launch.define_pictures`); None if the flag is not given."""
    name = flags.FLAGS.pictures
    return PictureFolder(user_path(name), flags.FLAGS.picture_format) if name else None


class Progress:
    """Lines on standard error that say what is being made, and after how many seconds it began."""

    def __init__(self, shown: bool = True):
        self._shown, self._since = shown, time.perf_counter()

    def start(self, what: str) -> None:
        """Prints a line about what begins now."""
        if self._shown:
            print(f"{time.perf_counter() - self._since:6.1f} s  {what}", file=sys.stderr, flush=True)


class PictureFolder:
    """A folder for the pictures of a report, one file for each, under the name of its section."""

    def __init__(self, folder: pathlib.Path, form: str):
        """Makes the folder. Raises UserError if that fails. form: png or svg."""
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._form = folder, form

    def add(self, section: Section) -> None:
        """Writes the pictures of a section; the second and later ones have a number in their names."""
        drawn = [part for part in section.parts if not isinstance(part, str)]
        for number, part in enumerate(drawn, start=1):
            picture = part if isinstance(part, Picture) else Picture(gallery_figure(part), section.title)
            name = section.name if number == 1 else f"{section.name}-{number}"
            with whole_file(self._folder / f"{name}.{self._form}") as fresh:
                if self._form == "png":
                    fresh.write_bytes(picture.png)
                else:
                    picture.figure.savefig(fresh, format=self._form)


def sections(steps: Iterable[Step], progress: Progress, pictures: PictureFolder | None = None) -> list[str]:
    """The sections as HTML, made one at a time: the pictures of each are written to the folder, and then freed."""
    parts = []
    for title, make in steps:
        progress.start(title)
        made = make()
        for section in [made] if isinstance(made, Section) else made:
            parts.append(page.section(section))
            if pictures is not None:
                pictures.add(section)
    return parts


def gallery_figure(gallery: Gallery) -> Figure:
    """The images of a gallery in rows of eight, each above its two lines of text."""
    count, shape = len(gallery.examples), gallery.examples[0].image.shape
    ratio = shape[0] / shape[1]
    rows, columns = -(-count // _COLUMNS), min(count, _COLUMNS)
    between = 1 + 0.35 / ratio  # rows from one image to the next, with room for its text
    figure = Figure(figsize=(1.3 * columns, 1.3 * rows * between * ratio + 0.2), layout="constrained")
    axes = figure.subplots()
    for number, (image, first, second) in enumerate(gallery.examples):
        row, column = number // _COLUMNS * between, number % _COLUMNS
        tile_image(axes, row, column, image[..., None] if image.ndim == 2 else image)
        place = column + 0.5, (row + 1) * ratio
        axes.text(*place, f"{first}\n{second}", ha="center", va="top", fontsize=7.5, parse_math=False)
    finish_tiles(axes, rows * between, columns, ratio)
    return figure
