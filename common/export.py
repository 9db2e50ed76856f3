"""Writes a trained run as a program that needs nothing of Lineage: `python -m common.export --workdir=DIR --out=FILE`.

The file's ending, or --format, chooses StableHLO (.stablehlo), ONNX (.onnx) or TensorFlow's SavedModel (.savedmodel, a
folder). The program takes decoded, resized and cropped uint8 images and gives the probabilities of `common.predict`.
Before the file is kept, it is read back and compared with the run on test images, or on photographs if the dataset of
an imported network is not here. It computes on the CPU, also where JAX finds an accelerator. See docs/export.md.
"""

import pathlib

from absl import flags

from common import launch
from common.errors import UserError, unknown
from common.files import check_new, check_writable, user_path, whole_file

ENDINGS = {"stablehlo": ".stablehlo", "onnx": ".onnx", "savedmodel": ".savedmodel"}
_CHECKED, _TESTED = 8, 1000  # test images to compare outputs on, and to measure the loss of 8 bits on

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of a trained run", allow_override=True)
_CHECKPOINT = launch.define_checkpoint()
_OUT = flags.DEFINE_string("out", None, "file to write; its card is FILE.md", allow_override=True)
_FORMAT = flags.DEFINE_string("format", "", "stablehlo, onnx or savedmodel; default: as the file's ending says")
_BATCH = flags.DEFINE_string("batch", "dynamic", "images in a batch, or dynamic: any number")
_DTYPE = flags.DEFINE_string("dtype", "float32", "type that the network computes in; ONNX: float32")
_PREPROCESS = flags.DEFINE_boolean("preprocess", True, "uint8 in, probabilities out; else normalised in, logits out")
_QUANTIZE = flags.DEFINE_string("quantize", "", "int8: multiply 8-bit integers; for ONNX only")


def main() -> None:
    """Exports the run that the command line names."""
    if not _WORKDIR.value or not _OUT.value:
        raise UserError("expected --workdir=DIR --out=FILE.stablehlo, FILE.onnx or FILE.savedmodel")
    path = user_path(_OUT.value)
    kind = file_format(path, _FORMAT.value)
    if _QUANTIZE.value and (_QUANTIZE.value != "int8" or kind != "onnx"):
        raise UserError(f"--quantize={_QUANTIZE.value} with format {kind}: only --quantize=int8 with ONNX is supported")
    if kind == "onnx" and _DTYPE.value != "float32":
        raise UserError(f"--dtype={_DTYPE.value}: ONNX programs compute in float32; use --format=stablehlo")
    batch = batch_size(_BATCH.value)
    for new in (path, beside(path, ".md"), *([beside(path, ".json")] if kind == "stablehlo" else [])):
        check_new(new, "--out")
    check_writable(path)
    _compute_on_cpu()
    export(path, kind, user_path(_WORKDIR.value), batch)


def _compute_on_cpu() -> None:
    """Makes JAX compute on the CPU: a program is then the same wherever it is made, and runs on every platform.

    An accelerator rounds the factors of float32 products, by more than the check of the program allows.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")


def export(path: pathlib.Path, kind: str, folder: pathlib.Path, batch: int | None) -> None:
    """Writes the program and its card, as the other flags say, and prints what was checked."""
    import importlib

    from common.data import datasets
    from common.exporting import card, program
    from common.pretrained import heads
    from common.run import trained, workdir

    form = importlib.import_module(f"common.exporting.{kind}")
    form.check_installed()
    run = trained.load(folder, _CHECKPOINT.value)
    heads.check_trained(run.config, run.step, folder)
    made = program.make(run, _PREPROCESS.value, batch, _DTYPE.value)
    images, where = None, "test images"
    try:
        test = datasets.load_test(made.run.config.data, known=made.run.info)
        images, _ = program.examples(test, _CHECKED)
    except UserError:
        if made.run.step or _QUANTIZE.value:  # only an imported network needs no dataset
            raise
        images, where = program.photographs(made.run, _CHECKED), "parts of scikit-learn's photographs"
    inputs = program.inputs(made, images)
    facts = program.facts(made, folder.name)
    if _QUANTIZE.value:
        facts["computed_in"] += ", with products of 8-bit integers"
    with whole_file(path) as fresh:
        form.write(made, fresh, facts)
        difference = program.check(made, form.read(fresh), inputs)
        when = " before quantisation" if _QUANTIZE.value else ""
        line = f"largest difference from the run{when}: {difference:.1e}, on {len(images)} {where}"
        if _QUANTIZE.value:
            more, labels = program.examples(test, _TESTED)
            more = program.inputs(made, more)
            before = program.error(made, form.read(fresh), more, labels)
            form.quantize(fresh, fresh)
            after = program.error(made, form.read(fresh), more, labels)
            line += f"; 8 bits: error {before:.2%} before and {after:.2%} after, on {len(more):,} test images"
    if kind == "stablehlo":
        workdir.write_json(beside(path, ".json"), facts)
    with whole_file(beside(path, ".md")) as fresh:
        fresh.write_text(card.text(made, path, folder, line), encoding="utf-8")
    print(f"{path}: {facts['network']} at step {made.run.step:,}, {_size(path):,} bytes\n{line}")


def _size(path: pathlib.Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def file_format(path: pathlib.Path, name: str) -> str:
    """The format of a file. Raises UserError for an unknown one, and for an ending of another."""
    by_ending = {ending: kind for kind, ending in ENDINGS.items()}
    if name and name not in ENDINGS:
        raise unknown("format", name, ENDINGS)
    if path.suffix not in by_ending:
        raise unknown("ending", path.suffix, by_ending)
    if name and by_ending[path.suffix] != name:
        raise UserError(f"--format={name} of '{path.name}': expected the ending {ENDINGS[name]}")
    return by_ending[path.suffix]


def batch_size(text: str) -> int | None:
    """The number of images in a batch, None for any. Raises UserError for anything else."""
    if text == "dynamic":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--batch={text}: expected dynamic or a whole number of at least 1")
    return int(text)


def beside(path: pathlib.Path, ending: str) -> pathlib.Path:
    """The file whose name has one more ending."""
    return path.with_name(path.name + ending)


if __name__ == "__main__":
    launch.run(main)
