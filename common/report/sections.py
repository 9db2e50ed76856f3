"""The report on a trained run, and its sections with results: numbers, mistakes, confidence and the recipe."""

import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from common import config as config_lib
from common.anatomy import layer_table
from common.data import datasets
from common.data.sources import Source
from common.errors import count_of
from common.optim.plan import Plan, make_plan
from common.optim.schedules import SCHEDULES
from common.report import assembly, calibration, error_figures, figures, inside, learning, mistakes, page, samples
from common.report.assembly import PictureFolder, Progress, Step
from common.report.page import Example, Gallery, Picture, Section
from common.run import summary, trained
from common.run.trained import Predictions, Run, Trained
from common.training.state import num_parameters

# The number of classes in a confusion matrix that has no room for all names.
_WORST_CLASSES = 50
_BARS = 30  # the most classes whose errors are drawn as bars
_PAIRS = 20  # the most pairs of confused classes
# Options that a recipe lists even at their defaults, and options that it never lists.
_ALWAYS = ("train.length", "train.batch_size", "optimizer.name", "schedule.name", "seed")
_NEVER = ("data.directory", "data.workers", "model.family", "model.variant", "tracker")


def report_html(
    folder: pathlib.Path, checkpoint: str = "", pictures: PictureFolder | None = None, verbose: bool = False
) -> str:
    """The report of the run in `folder`, as HTML. Raises UserError if there is no run or its dataset is missing.

    pictures: the folder that also gets each picture. verbose: whether to say on standard error what is being made.
    """
    progress = Progress(verbose)
    run = trained.load(folder, checkpoint)
    test = datasets.load_test(run.config.data, known=run.info)
    progress.start("Predictions for the test set")
    predictions = trained.predictions(run, test)
    layers = layer_table.rows(run.classifier.module, run.classifier.input_shape)
    steps: list[Step] = [
        ("Learning curves", lambda: learning.curves(run, folder)),
        ("Learning rate", lambda: learning.learning_rate(run, folder)),
        ("Confusion matrix", lambda: confusion(run, predictions)),
        ("Error by class", lambda: class_errors(run, predictions)),
        ("Calibration", lambda: calibrated(predictions)),
        ("Top predictions", lambda: samples.top_predictions(run, test, predictions)),
        ("Worst mistakes", lambda: worst_mistakes(run, test, predictions)),
        ("First filters", lambda: inside.first_filters(run, layers)),
        ("One image through the network", lambda: inside.example(run, test, predictions, layers)),
        ("Grad-CAM", lambda: samples.explained(run, test, predictions)),
        ("Effect of covering a part", lambda: samples.covered(run, test, predictions)),
        ("Pictures of this family of networks", lambda: inside.family_pictures(run, test)),
        ("Recipe", lambda: run_details(run, folder)),
    ]
    parts = [*headline(run, folder, predictions), *assembly.sections(steps, progress, pictures)]
    return page.document(f"{run.config.model.variant} on {run.info.name}", parts)


def headline(run: Run, folder: pathlib.Path, predictions: Predictions) -> list[str]:
    """The network, the data and the headline numbers."""
    info, model = run.info, run.config.model
    plan = make_plan(run.config, info.train_size)
    shape = "×".join(map(str, info.image_shape))
    parameters = num_parameters(run.variables["params"])
    network = f"{model.variant}, of the family {model.family}: {parameters:,} parameters."
    data = f"{info.name}: {info.train_size:,} training and {info.test_size:,} test images of {shape}"
    if not info.test_size:
        data = f"A file of {info.name}, made for images of {shape}"
    text = f"{network} {data}, in {info.num_classes} classes."
    epoch = page.three_digits(run.step / plan.epoch)
    shown = [(f"test error of this checkpoint, epoch {epoch}", f"{predictions.error:.2%}")]
    if summary.exists(folder):
        shown += _finished(summary.read(folder, summary.result_line), plan)
    else:
        text += " The run is not finished: it has no summary.json."
    return [page.paragraph(text), page.numbers(shown)]


def run_details(run: Run, folder: pathlib.Path) -> Section:
    """The recipe, and the versions and hardware of the run."""
    versions = summary.read(folder)["environment"] if summary.exists(folder) else {}
    return Section(
        "recipe",
        "Recipe",
        "The network's hyper-parameters, and every option that differs from its default in common/config.py.",
        [
            page.table(recipe(run.config)),
            page.folded("versions and hardware", page.table([(name, str(value)) for name, value in versions.items()])),
        ],
    )


def _finished(done: dict[str, Any], plan: Plan) -> list[tuple[str, str]]:
    """Names and values of the headline numbers of a finished run."""
    seconds, tested = sum(done["seconds"].values()), []
    if "test" in done:
        said = "with the lowest validation error" if "best_validation" in done else "at the end"
        epoch = page.three_digits(summary.tested_step(done) / plan.epoch)
        tested = [(f"test error {said}, epoch {epoch}", f"{done['test']['error']:.2%}")]
    return [
        *tested,
        ("training error at the end, on images with their random distortions", f"{done['train']['error']:.2%}"),
        ("training images per second", f"{done['images_per_second']:,.0f}"),
        ("time, including testing", _time(seconds)),
    ]


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def recipe(config: ConfigDict) -> list[tuple[str, str]]:
    """Options and values: the network's, those that differ from their defaults, and those that every recipe lists.

    Options of the schedule that it does not read are left out.
    """
    defaults = config_lib.flat(config_lib.base(ConfigDict()))
    always = {*_ALWAYS, *(f"schedule.{key}" for key in SCHEDULES[config.schedule.name].reads)}
    rows = []
    for name, value in config_lib.flat(config).items():
        told = name in always or name.startswith("model.") or value != defaults.get(name)
        if told and name not in _NEVER:
            rows.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows


def confusion(run: Trained, predictions: Predictions) -> Section:
    """The confusion matrix of the whole test set, and the most confused pairs if there is no room for its counts."""
    counts, names = mistakes.confusion_counts(predictions, run.info.num_classes), run.info.class_names
    caption = (
        f"Rows are the true classes of the {len(predictions.labels):,} test images, columns the predicted ones. "
        "Correct predictions are grey, on the diagonal; mistakes are blue. "
    ) + mistakes.most_confused(counts, names)
    pairs = mistakes.confused_pairs(counts, _PAIRS) if len(names) > error_figures.COUNTED_CLASSES else []
    if pairs:
        caption += f" The {len(pairs)} most frequent mistakes are also drawn as bars."
    told = [(names[true], names[said], count) for true, said, count in pairs]
    if len(names) > error_figures.NAMED_CLASSES:
        wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
        chosen = np.sort(np.argsort(-wrong, kind="stable")[:_WORST_CLASSES])
        counts, names = counts[np.ix_(chosen, chosen)], [names[i] for i in chosen]
        caption += f" The matrix has the {_WORST_CLASSES} of {run.info.num_classes} classes with the most mistakes."
    parts = [Picture(error_figures.confusion(counts, names), "confusion matrix")]
    if told:
        parts.append(Picture(error_figures.confused_pairs(told), "the most confused pairs of classes"))
    return Section("confusion", "Confusion matrix", caption, parts)


def class_errors(run: Trained, predictions: Predictions) -> Section:
    """The error on each class of the test set: bars for the worst classes, a table for all."""
    (examples, errors), names = mistakes.class_errors(predictions, run.info.num_classes), run.info.class_names
    order = np.argsort(-errors, kind="stable")[: np.count_nonzero(examples)]  # NaN comes last
    drawn = order[:_BARS]
    caption = "The error on the test images of each class, the highest first."
    if len(order) > len(drawn):
        caption += f" The {len(drawn)} classes with the highest errors are drawn; the table lists all {len(order)}."
    if len(order) < len(examples):
        caption += f" The test set has no images of {count_of(len(examples) - len(order), 'class', 'classes')}."
    figure = error_figures.class_errors([names[index] for index in drawn], examples[drawn], errors[drawn])
    rows = [(names[index], f"{errors[index]:.1%} of {examples[index]:,}") for index in order]
    every = page.folded("all classes", page.table(rows))
    return Section("classes", "Error by class", caption, [Picture(figure, "error of each class"), every])


def calibrated(predictions: Predictions, shares: str = "Probabilities are the softmax of the logits.") -> Section:
    """The reliability diagram and the expected calibration error on the test set.

    shares: a sentence on the origin of the probabilities.
    """
    found = calibration.calibration(predictions)
    confidence = float((np.nan_to_num(found.confidences) * found.counts).sum() / found.counts.sum())
    caption = (
        "The confidence of a prediction, which is the probability of the top class, beside the fraction of such "
        f"predictions that are right. {shares} The test images are sorted by confidence into {found.bins} bins of "
        "equal width. If a network is calibrated, the accuracy of each bin (blue) equals its mean confidence (orange "
        "mark). A bar below its mark is overconfident, a bar above it underconfident. The expected calibration error "
        "is the mean distance between the two, weighted by the images of the bins (ECE, Guo et al. 2017): "
        f"{found.error:.2%}. "
        f"The mean confidence is {confidence:.2%}, the accuracy {1 - predictions.error:.2%}. Bins with few images are "
        "noisy."
    )
    figure = error_figures.reliability(found)
    return Section("calibration", "Calibration", caption, [Picture(figure, "reliability diagram")])


def worst_mistakes(run: Trained, test: Source, predictions: Predictions) -> Section:
    """The mistakes whose true class has the lowest probability, as pictures."""
    caption = (
        "Misclassified test images, sorted by the probability of their true class, the lowest first. Below each image "
        "is its true class, then the predicted class with its probability."
    )
    names, items = run.info.class_names, []
    for index in mistakes.worst(predictions):
        predicted = predictions.predicted[index]
        said = f"as {names[predicted]}, {np.exp(predictions.log_probabilities[index, predicted]):.0%}"
        items.append(Example(figures.pixels(test[int(index)]["image"]), names[predictions.labels[index]], said))
    if not items:
        return Section("mistakes", "Worst mistakes", "Every test image is classified correctly.")
    return Section("mistakes", "Worst mistakes", caption, [Gallery(items)])
