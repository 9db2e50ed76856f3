"""The files of the documentation site: every document of the checkout where it lies, and a page beside each module.

A module `common/config.py` has its page where `common/config.md` would be, so that a document's link to the one becomes
a link to the other. Pictures and other files that documents link to are copied.
"""

import pathlib
import posixpath
import re
import subprocess

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure import StructureItem
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[1]
LEFT_OUT = ("tests/", "common/templates/", ".")
# The order of the navigation; folders that are not here follow.
FIRST = ("README.md", "docs/", "RESULTS.md", "lenet/", "alexnet/", "vgg/", "googlenet/", "resnet/", "vit/", "classic/")
LINK = re.compile(r"(\]\([^)#\s]+)\.py(?:#([\w.-]+))?(?=\))")  # with the name of a function, or GitHub's line


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the site in place of those that MkDocs has found in one folder."""
    theirs = [file for file in files if file.abs_src_path is None or not file.abs_src_path.startswith(config.docs_dir)]
    ours = [_page_or_copy(path, config) for path in _listed()]
    return Files([*theirs, *filter(None, ours)])


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """The navigation in the order of FIRST, with each section called as its README is, up to a colon."""
    for section in (item for item in nav.items if isinstance(item, Section)):
        readme = ROOT / _first_file(section)
        if readme.name == "README.md":
            section.title = readme.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").partition(":")[0]
    nav.items.sort(
        key=lambda item: next((n for n, start in enumerate(FIRST) if _first_file(item).startswith(start)), 99)
    )
    return nav


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A document whose links to modules lead to their pages."""

    def to_page(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), match[1].removeprefix("](")))
        if not files.get_file_from_path(f"{target}.md"):
            return match[0]
        name = match[2] or ""
        is_shown = name and not name.startswith("_") and not re.fullmatch(r"L\d+(-L\d+)?", name)
        return f"{match[1]}.md" + (f"#{target.replace('/', '.')}.{name}" if is_shown else "")

    return LINK.sub(to_page, markdown)


def _listed() -> list[str]:
    """The checkout's files, without those that git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for path in found if not path.startswith(LEFT_OUT) and (ROOT / path).is_file()]


def _first_file(item: StructureItem) -> str:
    """The file of a page, or of a section's first page."""
    while isinstance(item, Section):
        item = item.children[0]
    return item.file.src_uri


def _page_or_copy(path: str, config: MkDocsConfig) -> File | None:
    """A module's page, or a file as it is; None for a module that has no page of its own."""
    if not path.endswith(".py"):
        return File.generated(config, path, abs_src_path=str(ROOT / path))
    parts = list(pathlib.PurePosixPath(path).with_suffix("").parts)
    if len(parts) == 1 or (parts[-1] == "__init__" and len(parts) == 2):  # setup.py; a folder whose page is its README
        return None
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    page = posixpath.join(*parts[:-1], "index.md" if parts[-1] == "__init__" else f"{parts[-1]}.md")
    return File.generated(config, page, content=f"::: {name}\n")
