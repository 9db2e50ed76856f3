"""Writes a page about a fitted pipeline: `python -m classic.report --workdir=DIR [--out=FILE] [--pictures=DIR]`.

The page, by default DIR/report.html, is one self-contained file. As for a network, it shows the errors, the confusion
matrix, the calibration, predictions and mistakes. It also shows the cost of each stage, corners and keypoints of some
images, the visual vocabulary, the parts of images that spoke for their classes, and the recipe. docs/report.md says how
to read them.

A line on standard error says what is being made. `--pictures` writes each picture into a folder as well.
"""

import pathlib

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from classic import config as config_lib
from classic import evidence, pictures, pipeline, saved, train
from classic.descriptors import sift
from classic.pipeline import Pipeline
from common import config as common_config
from common import launch
from common.data import datasets
from common.data import pipeline as reading
from common.data.sources import Source
from common.errors import UserError
from common.files import check_writable, user_path, whole_file
from common.report import assembly, page, sample_figures, samples, sections
from common.report.assembly import PictureFolder, Progress, Step
from common.report.page import Picture, Section
from common.run import summary
from common.run.trained import Predictions

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of a fitted run", allow_override=True)
_OUT = flags.DEFINE_string("out", None, "file to write; default WORKDIR/report.html", allow_override=True)

launch.define_pictures()

_SHOWN = 5  # images in a row
_WORDS, _PATCHES = 16, 6  # of the vocabulary
_SEARCHED = 200  # images in which patches for words are looked for
_NEVER = ("data.directory",)  # options that a recipe does not list
_SHARES = (
    "Here, probabilities are the softmax of the decoder's scores. Few decoders are fitted to give probabilities. The "
    "distance from the diagonal shows how far off they are."
)


def main() -> None:
    """Writes the report of the run that the flags name."""
    if not _WORKDIR.value:
        raise UserError("--workdir is missing; for example --workdir=runs/classic_digits_fisher")
    folder = user_path(_WORKDIR.value)
    out = user_path(_OUT.value) if _OUT.value else folder / "report.html"
    check_writable(out)
    content = report_html(folder, assembly.folder_from_flags(), verbose=True)
    with whole_file(out) as file:
        file.write_text(content, encoding="utf-8")
    print(out)


def report_html(folder: pathlib.Path, pictures: PictureFolder | None = None, verbose: bool = False) -> str:
    """The report of the run in `folder`, as HTML. Raises UserError if there is no run or its dataset is missing.

    pictures: the folder that also gets each picture. verbose: whether to say on standard error what is being made.
    """
    progress = Progress(verbose)
    fitted = saved.load(folder)
    done = summary.read(folder, train.result_line)
    test = datasets.load_test(fitted.config.data, known=fitted.info)
    progress.start("Predictions for the test set")
    predictions = pipeline.predictions(fitted, test)
    steps: list[Step] = [
        ("Cost of each stage", lambda: costs(done)),
        ("Confusion matrix", lambda: sections.confusion(fitted, predictions)),
        ("Error by class", lambda: sections.class_errors(fitted, predictions)),
        ("Calibration", lambda: sections.calibrated(predictions, _SHARES)),
        ("Top predictions", lambda: top_predictions(fitted, test, predictions)),
        ("Worst mistakes", lambda: sections.worst_mistakes(fitted, test, predictions)),
        ("Corners and keypoints", lambda: points(fitted, test, predictions)),
        ("Visual vocabulary", lambda: vocabulary(fitted, test)),
        ("Parts that spoke for a class", lambda: evidence_maps(fitted, test, predictions)),
        ("Recipe", lambda: run_details(fitted, done)),
    ]
    parts = [headline(fitted, done, predictions), *assembly.sections(steps, progress, pictures)]
    return page.document(f"{pipeline.chain(fitted.config)} on {fitted.info.name}", parts)


def headline(fitted: Pipeline, done: dict, predictions: Predictions) -> str:
    """The pipeline, the data and the headline numbers."""
    info, shape = fitted.info, "×".join(map(str, fitted.info.image_shape))
    text = (
        f"{pipeline.chain(fitted.config)}: {fitted.parameters:,} numbers learnt. {info.name}: {info.train_size:,} "
        f"training and {info.test_size:,} test images of {shape}, in {info.num_classes} classes."
    )
    shown = [
        ("test error", f"{predictions.error:.2%}"),
        ("training error", f"{done['train']['error']:.2%}"),
        ("time to fit, seconds", f"{done['seconds']['fit']:,.1f}"),
        ("training images per second", f"{done['images_per_second']:,.0f}"),
    ]
    return page.paragraph(text) + page.numbers(shown)


def costs(done: dict) -> Section:
    """The time that each stage took."""
    stages = done["stages"]
    speeds = [f", {s['images_per_second']:,.0f} images/s" if "images" in s else "" for s in stages.values()]
    figure = pictures.costs(
        [name.replace("_", " of ") for name in stages], [s["seconds"] for s in stages.values()], speeds
    )
    rows = [
        (f"{name.replace('_', ' of ')}: {part}", f"{seconds:,.2f} s")
        for name, stage in stages.items()
        for part, seconds in stage.get("parts", {}).items()
    ]
    caption = (
        "The time that each stage took, over all starts of the run. The stages are the sample of descriptors, the "
        "encoder that is fitted to it, the features of each split, the decoder, and the scores of each split."
    )
    parts = page.folded("parts of the stages", page.table(rows))
    return Section("costs", "Cost of each stage", caption, [Picture(figure, "time of each stage"), parts])


def top_predictions(fitted: Pipeline, test: Source, predictions: Predictions) -> Section:
    """The top predictions for some images, and for those whose top prediction is least certain."""
    chosen = [*samples.one_per_class(predictions), *samples.least_certain(predictions)]
    images = [test[index]["image"] for index in chosen]
    caption = (
        "Test images with their true class and the classes with the highest scores; the true class is orange. The "
        "shares are the softmax of the decoder's scores; they rank the classes but need not be probabilities. The "
        "first images are the first of some classes; after them come the images whose top prediction is least certain."
    )
    shares = np.exp(predictions.log_probabilities[chosen])
    figure = sample_figures.top_predictions(images, predictions.labels[chosen], shares, fitted.info.class_names)
    return Section("predictions", "Top predictions", caption, [Picture(figure, "top predictions for test images")])


def points(fitted: Pipeline, test: Source, predictions: Predictions) -> Section:
    """Corners, eigenvalues and keypoints of some test images, whatever the pipeline describes."""
    chosen = samples.one_per_class(predictions)[:_SHOWN]
    images = [test[index]["image"] for index in chosen]
    options = ConfigDict({**sift.DEFAULTS, "detector": "dog"})
    found = []
    for image in images:
        options.scale = pictures.enlargement(image)
        found.append(sift.keypoints(image, options))
    caption = (
        "Test images, enlarged. Top: corners of Harris and Stephens. Middle: the eigenvalues of the gradients' "
        "covariance in a window. Edges, with one large eigenvalue, are blue; corners, with two, are violet to red; "
        "flat regions are black. Bottom: SIFT keypoints with their size and orientation."
    )
    names = [fitted.info.class_names[predictions.labels[index]] for index in chosen]
    picture = Picture(pictures.points(images, found, names), "corners and keypoints")
    return Section("points", "Corners and keypoints", caption, [picture])


def vocabulary(fitted: Pipeline, test: Source) -> list[Section]:
    """The most used words as patches of test images; empty without a vocabulary, or if no image has a word of it."""
    if not evidence.has_vocabulary(fitted):
        return []
    chosen = samples.evenly_spaced(len(test), _SEARCHED)
    patches = evidence.words(fitted, reading.gather(test, chosen)[0], _WORDS, _PATCHES)
    if not patches:
        return []
    caption = (
        f"Each column shows one of the {len(patches)} most used words of the vocabulary. Its patches are those of "
        f"{len(chosen)} test images whose codes have the largest shares of the word, at most one from an image."
    )
    picture = Picture(pictures.vocabulary(patches), "patches of words")
    return [Section("vocabulary", "Visual vocabulary", caption, [picture])]


def evidence_maps(fitted: Pipeline, test: Source, predictions: Predictions) -> list[Section]:
    """The parts of some correctly classified test images that spoke for their class; empty without such an image."""
    right = predictions.predicted == predictions.labels
    _, first = np.unique(np.where(right, predictions.labels, -1), return_index=True)
    chosen = [int(index) for index in first if right[index]][:_SHOWN]
    if not chosen:
        return []
    images = [test[index]["image"] for index in chosen]
    labels = [int(predictions.labels[index]) for index in chosen]
    maps = [evidence.margins(fitted, image, label) for image, label in zip(images, labels, strict=True)]
    left_out = (
        "its descriptors are left out" if evidence.has_many_descriptors(fitted) else "it is painted in the mean colour"
    )
    caption = (
        "Correctly classified test images, and the parts that spoke for their class. A map shows how much the "
        "lead of the class over the best other class falls when a square of a quarter of the image's side is "
        f"centred there and {left_out}: red spoke for the class, blue against it. Each map has its own scale, given "
        "below it."
    )
    names = [fitted.info.class_names[label] for label in labels]
    picture = Picture(pictures.evidence(images, maps, names), "maps of what spoke for a class")
    return [Section("evidence", "Parts that spoke for a class", caption, [picture])]


def run_details(fitted: Pipeline, done: dict) -> Section:
    """The recipe, and the versions and hardware of the run."""
    environment = page.table([(name, str(value)) for name, value in done["environment"].items()])
    return Section(
        "recipe",
        "Recipe",
        "The pipeline's parts with their options, and every other option that differs from its default.",
        [page.table(recipe(fitted.config)), page.folded("versions and hardware", environment)],
    )


def recipe(config: ConfigDict) -> list[tuple[str, str]]:
    """Names and values of options: the parts', the seed, and all others that differ from their defaults."""
    defaults = common_config.flat(config_lib.base())
    rows = []
    for name, value in common_config.flat(config).items():
        told = name == "seed" or name.startswith((*config_lib.PARTS, "pool")) or value != defaults.get(name)
        if told and name not in _NEVER:
            rows.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows


if __name__ == "__main__":
    launch.run(main)
