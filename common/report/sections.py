"""The sections of a report on a trained run: text, numbers and pictures.

A family's `pictures.py` may have

    pictures(run, images, labels) -> [(title, caption, matplotlib Figure), ...]

for a `trained.Run` and up to a thousand of its test images, as stored, evenly spaced over the test set.
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float, Int, PyTree
from ml_collections import ConfigDict

from common import config as config_lib
from common import models
from common.anatomy import layer_table
from common.anatomy.layer_table import Row
from common.data import datasets, pipeline
from common.data.datasets import Source
from common.data.preparation import Pixels
from common.optim.plan import Plan, make_plan
from common.optim.schedules import SCHEDULES
from common.report import figures, mistakes, page, samples
from common.run import metrics, summary, trained
from common.run.trained import Predictions, Run, Trained
from common.training.state import num_parameters

_LAYERS_SHOWN, _SAMPLE = 8, 1000
# The classes shown of a confusion matrix that has no room for the names of all.
_WORST_CLASSES = 50
_BARS = 30  # the most classes whose errors are drawn as bars
# Options that a recipe lists even at their defaults, and options that it never lists.
_ALWAYS = ("train.length", "train.batch_size", "optimizer.name", "schedule.name", "seed")
_NEVER = ("data.directory", "data.workers", "model.family", "model.variant")


def report_html(folder: pathlib.Path, checkpoint: str = "") -> str:
    """The report of the run in `folder`, as HTML; UserError if there is no run or its dataset is missing."""
    run = trained.load(folder, checkpoint)
    test = datasets.load_test(run.config.data, known=run.info)
    predictions = trained.predictions(run, test)
    layers = layer_table.rows(run.classifier.module, run.classifier.input_shape)
    parts = [*results_first(run, folder, predictions), *curves(run, folder)]
    parts += [confusion(run, predictions), class_errors(run, predictions)]
    parts += [samples.top_predictions(run, test, predictions), worst_mistakes(run, test, predictions)]
    parts += [*first_filters(run, layers), example(run, test, predictions, layers)]
    parts += [samples.covered(run, test, predictions), *family_pictures(run, test), what_was_run(run, folder)]
    return page.document(f"{run.config.model.variant} on {run.info.name}", parts)


def results_first(run: Run, folder: pathlib.Path, predictions: Predictions) -> list[str]:
    """The network, the data and the headline numbers."""
    info, model = run.info, run.config.model
    plan = make_plan(run.config, info.train_size)
    shape = "×".join(map(str, info.image_shape))
    text = (
        f"{model.variant}, of the family {model.family}: {num_parameters(run.variables['params']):,} parameters. "
        f"{info.name}: {info.train_size:,} training and {info.test_size:,} test images of {shape}, in "
        f"{info.num_classes} classes."
    )
    shown = [(f"test error of this checkpoint, epoch {run.step / plan.epoch:.3g}", f"{predictions.error:.2%}")]
    if summary.exists(folder):
        shown += _finished(summary.read(folder, summary.result_line), plan)
    else:
        text += f" The run is not finished: its last checkpoint is before step {plan.total:,}."
    return [page.paragraph(text), page.numbers(shown)]


def what_was_run(run: Run, folder: pathlib.Path) -> str:
    """The recipe, and the versions and hardware of the run."""
    versions = summary.read(folder)["environment"] if summary.exists(folder) else {}
    return page.section(
        "recipe",
        "Recipe",
        "The network's hyper-parameters, and every option that differs from its default in common/config.py.",
        page.table(recipe(run.config)),
        page.folded("versions and hardware", page.table([(name, str(value)) for name, value in versions.items()])),
    )


def _finished(done: dict[str, Any], plan: Plan) -> list[tuple[str, str]]:
    """Names and values of the headline numbers of a finished run."""
    seconds, tested = sum(done["seconds"].values()), []
    if "test" in done:
        tested = [(f"test error at the end, epoch {done['step'] / plan.epoch:.3g}", f"{done['test']['error']:.2%}")]
    return [
        *tested,
        ("training error at the end, on images as they were fed", f"{done['train']['error']:.2%}"),
        ("training images per second", f"{done['images_per_second']:,.0f}"),
        ("time, including testing", _time(seconds)),
    ]


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def recipe(config: ConfigDict) -> list[tuple[str, str]]:
    """Options and values: the network's, those that differ from their defaults, and those that every recipe lists.

    Rates that the schedule does not read are left out.
    """
    defaults = config_lib.flat(config_lib.base(ConfigDict()))
    always = {*_ALWAYS, *(f"schedule.{key}" for key in SCHEDULES[config.schedule.name].reads)}
    rows = []
    for name, value in config_lib.flat(config).items():
        told = name in always or name.startswith("model.") or value != defaults.get(name)
        if told and name not in _NEVER:
            rows.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows


def curves(run: Run, folder: pathlib.Path) -> list[str]:
    """Loss and error over epochs; empty for a run without records."""
    split = "validation" if run.info.validation_size else "test"
    train, watched = metrics.read(folder, "train"), metrics.read(folder, split)
    if not (train or watched):
        return []
    epoch = make_plan(run.config, run.info.train_size).epoch
    caption = (
        "Loss and error over passes through the training set. Training values are means over the updates since the "
        "previous record, on images as they were fed, random distortions included. "
        f"{split.capitalize()} values are of the whole {split} set at that moment. This is why training can lie above "
        f"{split}."
    )
    figure = figures.curves(train, watched, split, epoch, run.step)
    return [page.section("curves", "Learning curves", caption, page.picture(figure, "loss and error over epochs"))]


def confusion(run: Trained, predictions: Predictions) -> str:
    """The confusion matrix of the whole test set."""
    counts, names = mistakes.confusion_counts(predictions, run.info.num_classes), run.info.class_names
    caption = (
        f"Rows are the true classes of the {len(predictions.labels):,} test images, columns the predicted ones. "
        "Correct predictions are grey, on the diagonal; mistakes are blue. "
    ) + mistakes.most_confused(counts, names)
    if len(names) > figures.NAMED_CLASSES:
        wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
        chosen = np.sort(np.argsort(-wrong, kind="stable")[:_WORST_CLASSES])
        counts, names = counts[np.ix_(chosen, chosen)], [names[i] for i in chosen]
        caption += f" Of {run.info.num_classes} classes, the {_WORST_CLASSES} with the most mistakes are shown."
    picture = page.picture(figures.confusion(counts, names), "confusion matrix")
    return page.section("confusion", "Confusion matrix", caption, picture)


def class_errors(run: Trained, predictions: Predictions) -> str:
    """The error on each class of the test set: bars for the worst classes, a table of all."""
    (examples, errors), names = mistakes.class_errors(predictions, run.info.num_classes), run.info.class_names
    order = np.argsort(-errors, kind="stable")[: np.count_nonzero(examples)]  # NaN comes last
    drawn = order[:_BARS]
    caption = "The error on the test images of each class, the highest first."
    if len(order) > len(drawn):
        caption += f" The {len(drawn)} classes with the highest errors are drawn; the table lists all {len(order)}."
    if len(order) < len(examples):
        caption += f" The test set has no images of {len(examples) - len(order)} classes."
    figure = figures.class_errors([names[index] for index in drawn], examples[drawn], errors[drawn])
    rows = [(names[index], f"{errors[index]:.1%} of {examples[index]:,}") for index in order]
    every = page.folded("all classes", page.table(rows))
    return page.section("classes", "Error by class", caption, page.picture(figure, "error of each class"), every)


def worst_mistakes(run: Trained, test: Source, predictions: Predictions) -> str:
    """The mistakes with the largest losses, as pictures."""
    caption = (
        "The misclassified test images with the largest losses, the largest first. Under each is its true class, then "
        "the predicted class and its probability."
    )
    names, items = run.info.class_names, []
    for index in mistakes.worst(predictions):
        predicted = predictions.predicted[index]
        said = f"as {names[predicted]}, {np.exp(predictions.log_probabilities[index, predicted]):.0%}"
        items.append((figures.pixels(test[int(index)]["image"]), names[predictions.labels[index]], said))
    if not items:
        caption = "Every test image is classified correctly."
    return page.section("mistakes", "Worst mistakes", caption, page.examples(items))


def first_filters(run: Run, layers: Sequence[Row]) -> list[str]:
    """The kernels of the first convolution that reads the image; empty for a network without one."""
    parameters = traverse_util.flatten_dict(run.variables["params"], sep="/")
    channels = run.classifier.input_shape[-1]
    for row in layers:
        kernel = parameters.get(f"{row.name}/kernel")
        if kernel is not None and kernel.ndim == 4 and kernel.shape[2] == channels:
            return [_filters(row.name, np.asarray(kernel, np.float32))]
    return []


def _filters(layer: str, kernel: Float[np.ndarray, "height width channels filters"]) -> str:
    height, width, channels, count = kernel.shape
    shown = f"the first {figures.FILTERS_SHOWN} of {count}" if count > figures.FILTERS_SHOWN else f"all {count}"
    scale = (
        "each has its own scale, on which zero is grey"
        if channels == 3
        else "red is positive, blue is negative, white is zero"
    )
    caption = f"Weights of {layer}, which reads the image: {shown} kernels of {height}×{width}; {scale}."
    return page.section("filters", "First filters", caption, page.picture(figures.filters(kernel), "first filters"))


def example(run: Run, test: Source, predictions: Predictions, layers: Sequence[Row]) -> str:
    """The first test image on its way through the network."""
    image, names = test[0]["image"], run.info.class_names
    caption = (
        f"The first test image, of class {names[predictions.labels[0]]}, and the outputs of layers for it: the "
        f"{figures.MAPS_SHOWN} maps of each layer that vary most, from the layer's smallest value (dark) to its "
        "largest (bright). At the bottom are the probabilities of the likeliest classes."
    )
    probabilities = np.exp(predictions.log_probabilities[0])
    figure = figures.through_the_network(image, feature_maps(run, image, layers), probabilities, names)
    return page.section("maps", "One image through the network", caption, page.picture(figure, "feature maps"))


def feature_maps(run: Run, image: Pixels, layers: Sequence[Row]) -> list[figures.Maps]:
    """The outputs of at most eight layers for one stored image, evenly spaced from the first to the last.

    Layers are the outermost modules whose outputs are maps of more than one pixel.
    """
    inputs = trained.network_input(run, jnp.asarray(image)[None])
    outputs = traverse_util.flatten_dict(_intermediates(run.classifier.module, run.variables, inputs), sep="/")
    found = []
    for row in layers:
        key, shape = f"{row.name}/__call__", row.output_shape
        if key in outputs and len(shape) == 3 and shape[0] * shape[1] > 1:
            values = jax.tree.leaves(outputs[key])[0]
            found.append(figures.Maps(row.name, np.asarray(values[0], np.float32)))
    outermost = min((maps.layer.count("/") for maps in found), default=0)
    found = [maps for maps in found if maps.layer.count("/") == outermost]
    return [found[i] for i in _spread(len(found), _LAYERS_SHOWN)]


@functools.partial(jax.jit, static_argnums=0)
def _intermediates(module: nn.Module, variables: PyTree, images: Array) -> PyTree:
    """The output of every module, by its path."""
    _, state = module.apply(variables, images, train=False, capture_intermediates=True, mutable=["intermediates"])
    return state["intermediates"]


def _spread(size: int, count: int) -> Int[np.ndarray, " chosen"]:
    """At most `count` of `size` positions, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, size - 1, min(size, count)).round().astype(np.int64))


def family_pictures(run: Run, test: Source) -> list[str]:
    """Sections with the pictures of the family's `pictures.py`."""
    family = run.config.model.family
    draw = getattr(models.optional_module(family, "pictures"), "pictures", None)
    if draw is None:
        return []
    drawn = draw(run, *pipeline.gather(test, _spread(len(test), _SAMPLE)))
    return [
        page.section(f"{family}-{number}", title, caption, page.picture(figure, title))
        for number, (title, caption, figure) in enumerate(drawn, start=1)
    ]
