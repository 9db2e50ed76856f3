"""Sections of a report on single test images: their likeliest classes, and which of their parts matter."""

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
_PLACES = 14  # of the square along an axis, about


def likeliest(run: Run, test: Source, predictions: Predictions) -> str:
    """The five likeliest classes of some images, and of those that the network is least sure about."""
    chosen = [*ordinary(predictions), *hesitant(predictions)]
    images = [test[index]["image"] for index in chosen]
    caption = (
        "Test images, their class, and the classes that the network finds likeliest; the right one is orange. First "
        "come the first images of some classes, then those whose likeliest class has the smallest probability."
    )
    probabilities = np.exp(predictions.log_probabilities[chosen])
    figure = sample_figures.likeliest(images, predictions.labels[chosen], probabilities, run.info.class_names)
    picture = page.picture(figure, "the likeliest classes of test images")
    return page.section("likeliest", "Likeliest classes", caption, picture)


def ordinary(predictions: Predictions) -> list[int]:
    """The first images of four classes (of all, where there are fewer), evenly from the first class to the last."""
    return _first_of_classes(predictions, np.ones(len(predictions.labels), bool), _IN_A_ROW)


def hesitant(predictions: Predictions) -> list[int]:
    """The images whose likeliest class has the smallest probability, without those of `ordinary`."""
    order, shown = np.argsort(predictions.log_probabilities.max(-1), kind="stable"), ordinary(predictions)
    return [int(index) for index in order[: 2 * _IN_A_ROW] if index not in shown][:_IN_A_ROW]


def covered(run: Run, test: Source, predictions: Predictions) -> str:
    """What covering a part of an image does to the probability of its class."""
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
        f"A square of {side}×{side} pixels in the images' mean colour slides over rightly classified images. A map "
        "shows, for each place of its middle, the probability that is left of the right class: dark is where the "
        "network looks. The square is drawn where it does most harm, if any (Zeiler and Fergus 2014, section "
        "4.2)."
    )
    names = [run.info.class_names[predictions.labels[index]] for index in chosen]
    picture = page.picture(sample_figures.occlusion(images, found, names), "maps of sensitivity to occlusion")
    return page.section("occlusion", "What covering a part does", caption, picture)


def _probabilities(
    classifier: Classifier, variables: PyTree, images: Float[Array, "batch height width channels"]
) -> Float[Array, "batch classes"]:
    return jax.nn.softmax(classifier.logits(classifier.module.apply(variables, images, train=False)))


def _first_of_classes(predictions: Predictions, eligible: np.ndarray, count: int) -> list[int]:
    """The first eligible images of `count` classes, evenly from the first class that has any to the last."""
    classes, first = np.unique(np.where(eligible, predictions.labels, -1), return_index=True)
    first = first[classes >= 0]
    places = np.unique(np.linspace(0, len(first) - 1, min(count, len(first))).round().astype(int))
    return [int(index) for index in first[places]]
