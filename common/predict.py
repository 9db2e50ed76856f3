"""Classifies images with a trained run: `python -m common.predict --workdir=DIR PATH [PATH ...]`.

A path is an image file or a folder, with all files in it and in its sub-folders, but without earlier heat maps. Each
image is prepared as test images are (channels, inversion, size, centre, padding: the run's `config.data`). One line
gives its likeliest class, the probability of that class, and the next classes; `--json` and `--csv` print the same for
programs. Probabilities are the softmax of the logits; the logits of a network with penalties are the negative
penalties.

`--embeddings=FILE.npz` saves the output of a layer (`--layer`) for each image, with the names of the files.
`--explain=FOLDER` draws which parts of each image speak for its likeliest class.

For a file that cannot be read it prints one line on standard error and goes on. The exit code is then 1, or 2 if no
file could be read.
"""

import sys
from collections.abc import Callable, Sequence

import numpy as np
from absl import flags

from common import errors, launch
from common.data import normalize
from common.data.preparation import PreparedPixels
from common.devices import compilation
from common.errors import UserError
from common.files import user_path
from common.prediction import heat_maps, images, layers, network, output
from common.prediction.embeddings import Embeddings
from common.prediction.images import Prepared
from common.prediction.network import BatchOutputs
from common.prediction.output import Prediction
from common.pretrained import heads
from common.run import trained
from common.run.trained import Trained

EXIT_SOME_UNREAD = 1

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of a trained run", allow_override=True)
_CHECKPOINT = launch.define_checkpoint()
_TOP = flags.DEFINE_integer("top", 3, "number of classes to show after the likeliest", lower_bound=0)
_JSON = flags.DEFINE_boolean("json", False, "print one JSON object for each image")
_CSV = flags.DEFINE_boolean("csv", False, "print a CSV table with a row for each image")
_INVERT = flags.DEFINE_boolean(
    "invert",
    False,
    "swap black and white: for images that are negatives of what the run was trained on, such as photographs of dark "
    "ink on light paper where the training digits are bright on black",
)
_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "file (.npz) for the output of --layer for each image")
_LAYER = flags.DEFINE_string(
    "layer", None, "layer for --embeddings, by its name in the parameters; default: what the classifier reads"
)
_EXPLAIN = flags.DEFINE_string(
    "explain", None, "folder for pictures of the parts of each image that speak for its likeliest class"
)
OF_NETWORKS = ("embeddings", "layer", "explain")  # options that need a network

Compute = Callable[[Sequence[PreparedPixels]], BatchOutputs]
Keep = Callable[[Sequence[Prepared], BatchOutputs, Sequence[Prediction]], None]


def main(*paths: str) -> None:
    """Prints a line for each image that the command line names."""
    if not _WORKDIR.value:
        raise UserError("--workdir is missing; for example --workdir=runs/lenet5_digits")
    check_options(paths, "common.predict")
    if not (_EMBEDDINGS.value or _EXPLAIN.value):  # these are finished even if nobody reads the lines
        launch.end_with_pipe()
    folder = user_path(_WORKDIR.value)
    compilation.keep_in(folder)
    run = trained.load(folder, _CHECKPOINT.value)
    if not _EMBEDDINGS.value:
        heads.check_trained(run.config, run.step, folder)
    tap, method, keep = None, None, []
    if _EMBEDDINGS.value:
        shapes = layers.output_shapes(run.classifier.module, run.variables, run.classifier.input_shape)
        tap = layers.find_layer(shapes, _LAYER.value) if _LAYER.value else layers.classifier_input(shapes)
        embeddings = Embeddings(_EMBEDDINGS.value, str(tap))
        keep.append(lambda batch, found, _: embeddings.add(batch, found.features))
    if _EXPLAIN.value:
        method = heat_maps.method(run)
        keep.append(_pictures(_EXPLAIN.value, method.name))

    def start(files: int) -> tuple[int, Compute]:
        size = network.batch_size(run, files, method is not None)
        return size, network.compiled(run, size, tap, method and method.explain)

    code = show(run, paths, start, keep)
    if _EMBEDDINGS.value and code != errors.EXIT_USER_ERROR:
        embeddings.write()
    sys.exit(code)


def _pictures(folder: str, method: str) -> Keep:
    """The function that draws heat maps into a folder."""
    from common.report.explained import Pictures  # Matplotlib is slow to import

    pictures = Pictures(folder, method)
    return lambda batch, found, predictions: pictures.add(
        batch, np.asarray(found.heat), [one.ranking[0] for one in predictions]
    )


def check_options(paths: Sequence[str], tool: str) -> None:
    """Raises UserError for a command line without paths, or with options that contradict each other."""
    if not paths:
        raise UserError(f"no image given; expected python -m {tool} --workdir=DIR PATH [PATH ...]")
    for flag, expected in ((_EMBEDDINGS, "a file, as in --embeddings=FILE.npz"), (_EXPLAIN, "a folder")):
        if flag.value == "":  # as from a variable that is not set
            raise UserError(f"--{flag.name} is empty; expected {expected}")
    if _JSON.value and _CSV.value:
        raise UserError("--json and --csv are both given; choose one")
    if _LAYER.value and not _EMBEDDINGS.value:
        raise UserError(f"--layer is '{_LAYER.value}', but nothing is kept of it; add --embeddings=FILE.npz")


def show(
    run: Trained, paths: Sequence[str], start: Callable[[int], tuple[int, Compute]], keep: Sequence[Keep] = ()
) -> int:
    """Prints the predictions for the images at some paths, batch by batch, and returns the tool's exit code.

    start: number of files -> the size of batches, and the function from a batch to its results. keep: called with each
    batch. A file that cannot be read is reported on standard error. The exit code is then 1, or 2 if no file could be
    read. Raises UserError for a run whose images no file can hold.
    """
    unread, some_read = [], False
    normalize.check_bytes(run.config.data, run.info)

    def report(error: UserError) -> None:
        unread.append(error)
        print(f"error: {errors.one_line(error)}", file=sys.stderr)

    files = images.find(paths, report)
    size, compute = start(len(files))
    print_lines = _printer(run.info.num_classes)
    for batch in images.batches(run, files, size, _INVERT.value, report):
        some_read = True
        found = compute([image.pixels for image in batch])
        predictions = output.rank_predictions(batch, np.asarray(found.log_probabilities), run.info.class_names)
        print_lines(predictions)
        for function in keep:
            function(batch, found, predictions)
    if not some_read:
        return errors.EXIT_USER_ERROR
    return EXIT_SOME_UNREAD if unread else 0


def _printer(num_classes: int) -> Callable[[Sequence[Prediction]], None]:
    """Prints a table's header, if any; returns the function that prints predictions as the options say."""
    top = min(_TOP.value, num_classes - 1)
    if _CSV.value:
        print(output.csv_header(top))
    form = output.as_csv if _CSV.value else output.as_json if _JSON.value else output.as_text
    return lambda predictions: print("\n".join(form(predictions, top)), flush=True)


if __name__ == "__main__":
    launch.run(main)
