"""Sections of a report on single test images: their top predictions, and the parts of them that matter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from common.data.sources import Source
from common.models import Classifier
from common.report import occlusion, page, sample_figures
from common.run import trained
from common.run.trained import Predictions, Run

_IN_A_ROW, _COVERED = 4, 5
_PLACES = 14  # about how many places the square takes along an axis


def top_predictions(run: Run, test: Source, predictions: Predictions) -> str:
    """The top predictions for some images, and for those that the network is least sure about."""
    chosen = [*ordinary(predictions), *hesitant(predictions)]
    images = [test[index]["image"] for index in chosen]
    caption = (
        "Test images with their true class and the classes that the network finds likeliest; the true class is "
        "orange. First come the first images of some classes, then the images whose top prediction is least certain."
    )
    probabilities = np.exp(predictions.log_probabilities[chosen])
    figure = sample_figures.top_predictions(images, predictions.labels[chosen], probabilities, run.info.class_names)
    picture = page.picture(figure, "top predictions for test images")
    return page.section("predictions", "Top predictions", caption, picture)


def ordinary(predictions: Predictions) -> list[int]:
    """Indices of the first images of four classes (or of all, if there are fewer), evenly spaced over the classes."""
    return _first_of_classes(predictions, np.ones(len(predictions.labels), bool), _IN_A_ROW)


def hesitant(predictions: Predictions) -> list[int]:
    """Indices of the images whose likeliest class has the smallest probability, without those of `ordinary`."""
    order, shown = np.argsort(predictions.log_probabilities.max(-1), kind="stable"), ordinary(predictions)
    return [int(index) for index in order[: 2 * _IN_A_ROW] if index not in shown][:_IN_A_ROW]


def covered(run: Run, test: Source, predictions: Predictions) -> str:
    """The effect of covering a part of an image on the probability of its class."""
    chosen = _first_of_classes(predictions, predictions.predicted == predictions.labels, _COVERED)
    if not chosen:
        return ""
    images = [test[index]["image"] for index in chosen]
    inputs = np.asarray(trained.network_input(run, jnp.asarray(np.stack(images))), np.float32)
    side = max(min(run.classifier.input_shape[:2]) // 4, 1)
    stride = max(round(min(run.classifier.input_shape[:2]) / _PLACES), 1)
    predict = functools.partial(_probabilities, run.classifier)
    found = occlusion.sensitivity(
        predict, run.variables, inputs, predictions.labels[chosen], side, stride, inputs.mean((0, 1, 2))
    )
    caption = (
        f"A square of {side}×{side} pixels in the images' mean colour slides over correctly classified images. A map "
        "shows the probability of the true class for each position of the square's centre. Dark places are those that "
        "the network needs to see. The square is drawn where it lowers the probability most, if it lowers it at all "
        "(Zeiler and Fergus 2014, section 4.2)."
    )
    names = [run.info.class_names[predictions.labels[index]] for index in chosen]
    picture = page.picture(sample_figures.occlusion(images, found, names), "maps of sensitivity to occlusion")
    return page.section("occlusion", "Effect of covering a part", caption, picture)


def _probabilities(
    classifier: Classifier, variables: PyTree, images: Float[Array, "batch height width channels"]
) -> Float[Array, "batch classes"]:
    return jax.nn.softmax(classifier.logits(classifier.module.apply(variables, images, train=False)))


def _first_of_classes(predictions: Predictions, eligible: np.ndarray, count: int) -> list[int]:
    """Indices of the first eligible images of `count` classes, evenly spaced over the classes that have one."""
    classes, first = np.unique(np.where(eligible, predictions.labels, -1), return_index=True)
    first = first[classes >= 0]
    places = np.unique(np.linspace(0, len(first) - 1, min(count, len(first))).round().astype(int))
    return [int(index) for index in first[places]]
