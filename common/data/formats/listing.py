"""Lists of labelled image files: a folder with one sub-folder for each class, or a CSV file."""

import csv
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from common.data import decode
from common.errors import UserError, listed
from common.files import as_text, user_path

COLUMNS = ("image", "label")  # of a CSV file
_JUNK = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")  # that Windows and macOS leave in folders


@dataclasses.dataclass(frozen=True)
class Listing:
    """Image files and the names of their classes.

    source: the folder of the classes, or the CSV file. root: the folder that the files are relative to. links: the
    files that are links themselves; a folder of files may be a link as well.
    """

    source: pathlib.Path
    root: pathlib.Path
    classes: dict[str, str]  # class name by file
    links: frozenset[str]

    def called(self, class_name: str) -> str:
        """The words for a class in an error message."""
        if self.source == self.root:
            return f"class '{self.root / class_name}'"
        return f"class '{class_name}' in '{self.source}'"


def existing_folder(name: str) -> pathlib.Path:
    """The folder of that name. Raises UserError if there is none."""
    try:
        root = user_path(name).absolute()
        exists = root.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, an unknown ~user, a null character
        raise UserError(f"no folder '{name[:100]}': {error}") from error
    if not exists:
        meant = "; FOLDER stands for the path of your own images" if name == "FOLDER" else decode.similar_name(root)
        raise UserError(f"no folder '{root}'{meant}")
    return root


def find(root: pathlib.Path, split: str) -> pathlib.Path | None:
    """The CSV file of a split, if it has the right columns, else its folder; None if there is neither."""
    table, folder = root / f"{split}.csv", root / split
    if set(COLUMNS) <= set(columns(table)):
        return table
    return folder if folder.is_dir() else None


def columns(table: pathlib.Path) -> list[str]:
    """The names in the first line of a CSV file; none if there is no such file."""
    if not table.is_file():
        return []
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file, skipinitialspace=True), [])
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"'{table}' cannot be read: {error}") from error


def read(source: pathlib.Path, *, allow_missing: bool = False) -> Listing:
    """The files of a CSV file, or of the folder of the classes.

    Images in sub-folders of a class belong to the class. Hidden files and file managers' leftovers are ignored.
    allow_missing: keep files that a CSV file names but that do not exist. Raises UserError for a class without images.
    """
    return _from_table(source, allow_missing) if source.is_file() else _from_folders(source)


def files_below(folder: str | os.PathLike[str]) -> list[str]:
    """The files in a folder and its sub-folders, by name, without hidden ones and file managers' leftovers.

    Raises UserError for a folder that cannot be read, and for a link to a folder that contains it.
    """
    return [file for file, _ in _files_below(os.fspath(folder), "", ())]


def has_folders(folder: pathlib.Path) -> bool:
    """True if a folder has a sub-folder that could be a class."""
    return any(_is_folder(entry) for entry in _visible(folder))


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in alphabetical order, or in the order of their numbers if all are numbers."""
    names = sorted(names)
    if all(name.isascii() and name.isdigit() for name in names):
        names.sort(key=lambda name: (len(name.lstrip("0")), name.lstrip("0")))
    return tuple(names)


def _from_folders(root: pathlib.Path) -> Listing:
    classes: dict[str, str] = {}
    links: set[str] = set()
    for entry in _visible(root):
        if not _is_folder(entry):
            continue
        files = dict(_files_below(entry.path, f"{entry.name}/", (_identity(entry),)))
        if not files:
            raise UserError(f"class '{root / entry.name}' has no images")
        classes |= dict.fromkeys(files, as_text(entry.name))
        links |= _links(files)
    return Listing(root, root, classes, frozenset(links))


def _from_table(table: pathlib.Path, allow_missing: bool) -> Listing:
    rows = _rows(table)
    if not rows:
        raise UserError(f"'{table}' lists no images")
    for line, image, label in rows:
        if not (image and label):
            raise UserError(f"'{table}', line {line}: expected an image and its label")
    root, known, links = _image_folder(table, rows)
    classes = {}
    for line, image, label in rows:
        file, *others = known.get(image, [image])
        if others:
            raise UserError(f"'{table}', line {line}: '{image}' may be {listed([file, *others])}; add the suffix")
        if file in classes:
            raise UserError(f"'{table}', line {line}: '{image}' is listed twice")
        if image not in known and not allow_missing:
            raise UserError(f"'{table}', line {line}: there is no image '{image}' in '{root}'")
        classes[file] = label
    return Listing(table, root, classes, links)


def _rows(table: pathlib.Path) -> list[tuple[int, str, str]]:
    """Line, image and label of each row."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, restval="", skipinitialspace=True)
            image, label = COLUMNS
            return [(rows.line_num, row[image].strip(), row[label].strip()) for row in rows]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"'{table}' cannot be read: {error}") from error


def _image_folder(
    table: pathlib.Path, rows: Sequence[tuple[int, str, str]]
) -> tuple[pathlib.Path, dict[str, list[str]], frozenset[str]]:
    """The folder with the images of a CSV file, its files by name with and without suffix, and those that are links.

    It is the first of SPLIT/, SPLIT_images/ and the CSV file's own folder that has the first listed image which any of
    them has. Raises UserError if none has any.
    """
    root, split = table.parent, table.stem
    folders = [folder for folder in (root / split, root / f"{split}_images", root) if folder.is_dir()]
    files_of = functools.cache(_files_by_name)  # the first folder usually has the first image: the others are not read
    for _, image, _ in rows:
        for folder in folders:
            if image in files_of(folder)[0]:
                return folder, *files_of(folder)
    line, image, _ = rows[0]
    raise UserError(f"'{table}', line {line}: there is no image '{image}' in {listed([str(one) for one in folders])}")


def _files_by_name(folder: pathlib.Path) -> tuple[dict[str, list[str]], frozenset[str]]:
    """The files in a folder and its sub-folders by name, and those that are links.

    Several may have the same name without suffix.
    """
    files = dict(_files_below(os.fspath(folder), "", ()))
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(os.path.splitext(file)[0], []).append(file)
    return found | {file: [file] for file in files}, _links(files)  # a whole name means that file


def _links(files: Mapping[str, bool]) -> frozenset[str]:
    """The files, from `_files_below`, that are links."""
    return frozenset(file for file, is_link in files.items() if is_link)


def _files_below(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, bool]]:
    """The files in a folder and its sub-folders, after `prefix`, and whether each is a link.

    above: identifies the folders that contain this one.
    """
    for entry in _visible(folder):
        if not _is_folder(entry):
            yield prefix + entry.name, entry.is_symlink()
            continue
        if _identity(entry) in above:
            raise UserError(f"'{entry.path}' is a link to a folder that contains it")
        yield from _files_below(entry.path, f"{prefix}{entry.name}/", (*above, _identity(entry)))


def _visible(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """The entries of a folder by name, without hidden ones and file managers' leftovers."""
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _JUNK]
    except OSError as error:
        raise UserError(f"'{folder}' cannot be read: {error.strerror}") from error
    return sorted(kept, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # such as a link to itself
        raise UserError(f"'{entry.path}' cannot be read: {error.strerror}") from error


def _identity(entry: os.DirEntry) -> tuple[int, int]:
    found = entry.stat()
    return found.st_dev, found.st_ino


def table_hint(root: pathlib.Path, split: str) -> str:
    """Words for an error about a split's CSV file that lacks the expected columns; empty if there is no such file."""
    found = columns(root / f"{split}.csv")
    if not found or set(COLUMNS) <= set(found):
        return ""
    return f" ('{split}.csv' has the columns {listed(found)}; expected 'image' and 'label')"
