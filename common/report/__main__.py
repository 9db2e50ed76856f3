"""Writes a page about a trained run: `python -m common.report --workdir=DIR [--out=FILE] [--pictures=DIR]`.

The page, by default DIR/report.html, is one self-contained file. It shows the learning curves and rates, the confusion
matrix, the error by class, the calibration, the top predictions, the worst mistakes, the first filters, the outputs of
layers for one image, the parts of images that matter, the family's own pictures and the recipe. docs/report.md explains
how to read them.

Lines on standard error say what is being made. `--pictures` also writes each picture into a folder.
"""

from absl import flags

from common import launch
from common.errors import UserError
from common.files import check_writable, user_path, whole_file

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of a trained run", allow_override=True)
_CHECKPOINT = launch.define_checkpoint()
_OUT = flags.DEFINE_string("out", None, "file to write; default WORKDIR/report.html", allow_override=True)
launch.define_pictures()


def main() -> None:
    """Writes the report of the run that the flags name."""
    if not _WORKDIR.value:
        raise UserError("--workdir is missing; for example --workdir=runs/lenet5_digits")
    folder = user_path(_WORKDIR.value)
    out = user_path(_OUT.value) if _OUT.value else folder / "report.html"
    check_writable(out)
    from common.devices import compilation  # slow imports, once the flags are known to be right
    from common.report import assembly, sections

    compilation.keep_in(folder)
    content = sections.report_html(folder, _CHECKPOINT.value, assembly.folder_from_flags(), verbose=True)
    with whole_file(out) as file:
        file.write_text(content, encoding="utf-8")
    print(out)


if __name__ == "__main__":
    launch.run(main)
