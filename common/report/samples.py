"""Sections of a report that show single test images: their top predictions, and their parts that matter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from common.data.sources import Source
from common.devices import compilation
from common.errors import UserError
from common.models import Classifier
from common.prediction import heat_maps
from common.report import explained as explained_figures
from common.report import mistakes, occlusion, sample_figures
from common.report.figures import shortened
from common.report.page import Picture, Section
from common.run import trained
from common.run.trained import Predictions, Run

_IN_A_ROW, _COVERED = 4, 5
_RIGHT, _WRONG = 5, 3  # images under heat maps
_PLACES = 14  # places of the square along an axis, approximately


def top_predictions(run: Run, test: Source, predictions: Predictions) -> Section:
    """The top predictions for some images, and for those that the network is least sure about."""
    chosen = [*one_per_class(predictions), *least_certain(predictions)]
    images = [test[index]["image"] for index in chosen]
    most = sample_figures.BARS
    shown = f"the {most} classes with the highest probabilities" if run.info.num_classes > most else "all classes"
    caption = (
        f"Test images with their true class above, and {shown} below; the true class is orange. The first images are "
        "the first of some classes; after them come the images whose top prediction is least certain."
    )
    probabilities = np.exp(predictions.log_probabilities[chosen])
    figure = sample_figures.top_predictions(images, predictions.labels[chosen], probabilities, run.info.class_names)
    return Section("predictions", "Top predictions", caption, [Picture(figure, "top predictions for test images")])


def one_per_class(predictions: Predictions) -> list[int]:
    """Indices of the first images of four classes (or of all, if there are fewer), evenly spaced over the classes."""
    return _first_of_classes(predictions, np.ones(len(predictions.labels), bool), _IN_A_ROW)


def least_certain(predictions: Predictions) -> list[int]:
    """Indices of the images whose top prediction has the smallest probability, without those of `one_per_class`."""
    order, shown = np.argsort(predictions.log_probabilities.max(-1), kind="stable"), one_per_class(predictions)
    return [int(index) for index in order[: 2 * _IN_A_ROW] if index not in shown][:_IN_A_ROW]


def explained(run: Run, test: Source, predictions: Predictions) -> list[Section]:
    """Grad-CAM of some images, classified rightly and wrongly.

    Empty for a network without maps of more than one pixel, and for a family with its own method, which it draws among
    its own pictures.
    """
    try:
        method = heat_maps.method(run)
    except UserError:
        return []
    if method.name != heat_maps.GRAD_CAM:
        return []
    right = _first_of_classes(predictions, predictions.predicted == predictions.labels, _RIGHT)
    chosen = [*right, *(int(index) for index in mistakes.worst(predictions)[:_WRONG])]
    images, names = [test[index]["image"] for index in chosen], run.info.class_names
    inputs = trained.network_input(run, jnp.asarray(np.stack(images)))
    heat = np.asarray(compilation.jit(functools.partial(_heat, run.classifier, method.explain))(run.variables, inputs))
    titles = []
    for index in chosen:
        label, said = predictions.labels[index], predictions.predicted[index]
        true = f"\nis {shortened(names[label])}" if label != said else ""
        titles.append(f"{shortened(names[said])}, {np.exp(predictions.log_probabilities[index, said]):.0%}{true}")
    rows, columns = heat.shape[1:]
    caption = (
        "The parts of an image that raise the logit of its top prediction (Grad-CAM, Selvaraju et al. 2017). Bright "
        "places speak for the class that is named above the image. Each image has its own scale, from zero to its "
        f"largest value. Middle: the map itself, {rows}×{columns} values from the last layer that has maps. Bottom: "
        "the same map, smoothed and laid over the image. The first images are classified correctly; after them come "
        "the worst mistakes, with their true classes."
    )
    if not heat.max((1, 2)).all():
        caption += " A wholly black map means that no part raises the logit: equation 2 is zero everywhere."
    figure = explained_figures.heat_maps(images, heat, titles)
    return [Section("grad-cam", "Parts that speak for the prediction", caption, [Picture(figure, "Grad-CAM")])]


def _heat(
    classifier: Classifier,
    explain: heat_maps.Explain,
    variables: PyTree,
    inputs: Float[Array, "batch height width channels"],
) -> Float[Array, "batch rows columns"]:
    return explain(classifier, variables, inputs, ())[2]


def covered(run: Run, test: Source, predictions: Predictions) -> list[Section]:
    """The effect of covering a part of an image on the probability of its class; empty without a right prediction."""
    chosen = _first_of_classes(predictions, predictions.predicted == predictions.labels, _COVERED)
    if not chosen:
        return []
    images = [test[index]["image"] for index in chosen]
    inputs = np.asarray(trained.network_input(run, jnp.asarray(np.stack(images))), np.float32)
    side = max(min(run.classifier.input_shape[:2]) // 4, 1)
    stride = max(round(min(run.classifier.input_shape[:2]) / _PLACES), 1)
    predict = functools.partial(_probabilities, run.classifier)
    found = occlusion.sensitivity(
        predict, run.variables, inputs, predictions.labels[chosen], side, stride, inputs.mean((0, 1, 2))
    )
    caption = (
        f"A square of {side}×{side} pixels in the images' mean colour slides over correctly classified images. For "
        "each place of the square's centre, the map shows how much the probability of the true class falls. The "
        "network needs the bright parts of the image, but not the dark ones. The square is drawn where the probability "
        "falls most, if it falls at all (Zeiler and Fergus 2014, section 4.2)."
    )
    names = [run.info.class_names[predictions.labels[index]] for index in chosen]
    picture = Picture(sample_figures.occlusion(images, found, names), "maps of the effect of covering a part")
    return [Section("occlusion", "Effect of covering a part", caption, [picture])]


def _probabilities(
    classifier: Classifier, variables: PyTree, images: Float[Array, "batch height width channels"]
) -> Float[Array, "batch classes"]:
    return jax.nn.softmax(classifier.logits(classifier.module.apply(variables, images, train=False)))


def _first_of_classes(predictions: Predictions, eligible: np.ndarray, count: int) -> list[int]:
    """Indices of the first eligible images of `count` classes, evenly spaced over the classes that have one."""
    classes, first = np.unique(np.where(eligible, predictions.labels, -1), return_index=True)
    first = first[classes >= 0]
    return [int(index) for index in first[evenly_spaced(len(first), count)]]


def evenly_spaced(size: int, count: int) -> Int[np.ndarray, " chosen"]:
    """At most `count` of `size` positions, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, size - 1, min(size, count)).round().astype(np.int64))
