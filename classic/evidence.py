"""The parts of an image that spoke for a class, and the patches of images that words of a vocabulary stand for."""

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from classic import pipeline
from classic.descriptors import Descriptors, dense_sift, sift
from classic.encoders import ENCODERS, fisher
from classic.pipeline import Pipeline
from common.data.preparation import Pixels

PLACES = 14  # of the square, along an axis
SHARE = 0.25  # its side, as a share of the image's


def margins(fitted: Pipeline, image: Pixels, label: int) -> Float[np.ndarray, "places places"]:
    """The fall of a class's lead over the best other class when the descriptors in a square are left out.

    There is a value for each position of the square, row by row from the top left. It is positive if the descriptors
    spoke for the class. If a pipeline describes an image as a whole, the square is painted in the image's mean colour
    instead.
    """
    found = pipeline.describe(fitted.config, image[None])
    t = found.present.shape[1]
    along = (np.arange(PLACES) + 0.5) / PLACES
    corners = np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    if t > 1:
        inside = np.all(np.abs(found.centres - corners) <= SHARE / 2, axis=-1)  # [places^2 t]
        vectors, centres = (np.broadcast_to(part, (len(corners), *part.shape[1:])) for part in found[:2])
        values = _scores(fitted, Descriptors(vectors, centres, found.present & ~inside))
        whole = _scores(fitted, found)
    else:
        values = pipeline.scores(fitted, _covered(image, corners[:, 0]))
        whole = pipeline.scores(fitted, image[None])
    return (_lead(whole, label) - _lead(values, label)).reshape(PLACES, PLACES)


def _scores(fitted: Pipeline, found: Descriptors) -> Float[np.ndarray, "n classes"]:
    return pipeline.scores_of_features(fitted, pipeline.encode(fitted.config, fitted.arrays["encode"], found))


def _lead(values: Float[np.ndarray, "n classes"], label: int) -> Float[np.ndarray, " n"]:
    """The score of a class minus the highest score of the others."""
    return values[:, label] - np.delete(values, label, axis=1).max(1)


def _covered(image: Pixels, centres: Float[np.ndarray, "n 2"]) -> UInt8[np.ndarray, "n height width channels"]:
    """Copies of the image, each with a square in its mean colour around one of the centres (shares of its sides)."""
    height, width = image.shape[:2]
    y, x = ((np.arange(length) + 0.5) / length for length in (height, width))
    rows, columns = (np.abs(a - centres[:, [i]]) <= SHARE / 2 for i, a in ((0, y), (1, x)))
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return np.where(inside, np.round(image.mean((0, 1))).astype(np.uint8), image)


def has_many_descriptors(fitted: Pipeline) -> bool:
    """True if the pipeline has more than one descriptor of an image."""
    found = pipeline.describe(fitted.config, np.zeros((1, *fitted.info.image_shape), np.uint8))
    return found.present.shape[1] > 1


def has_vocabulary(fitted: Pipeline) -> bool:
    """True if the pipeline's encoder has words that patches of images can be shown for."""
    return fitted.config.encode.name != "flat" and has_many_descriptors(fitted)


def words(
    fitted: Pipeline, images: UInt8[np.ndarray, "n height width channels"], count: int, most: int
) -> list[list[UInt8[np.ndarray, "_ _ channels"]]]:
    """Patches of images for the `count` most used words, at most `most` for each.

    A word's patches are those whose codes have the largest shares of it, one from each image. A word that no image has
    is left out.
    """
    best, places, sides = [], [], []  # of each image and word: the largest code, and the descriptor that has it
    for image in images:
        found = pipeline.describe(fitted.config, image[None])
        strength = np.where(found.present[0][:, None], codes(fitted, found), 0)
        chosen = strength.argmax(0)
        best.append(strength.max(0))
        places.append(found.centres[0][chosen])
        sides.append(_sides(fitted, image, len(strength))[chosen])
    values = np.stack(best)
    used = np.argsort(-(values > 0.5 * values.max(0)).sum(0) * values.mean(0), kind="stable")[:count]
    return [
        [
            _cut(images[i], places[i][word], int(sides[i][word]))
            for i in np.argsort(-values[:, word], kind="stable")[:most]
            if values[i, word] > 0
        ]
        for word in used
        if values[:, word].max() > 0
    ]


def codes(fitted: Pipeline, found: Descriptors) -> Float32[np.ndarray, "t words"]:
    """The strength of each word in the code of each descriptor of one image; for Fisher vectors, the posteriors."""
    arrays, options = fitted.arrays["encode"], fitted.config.encode
    if options.name == "fisher":
        return fisher.posteriors(arrays, found, options)[0]
    alone = np.eye(found.present.shape[1], dtype=bool)[None]  # each descriptor is a region of its own
    return np.abs(ENCODERS[options.name].encode(arrays, found, alone, options)[0])


def _sides(fitted: Pipeline, image: Pixels, count: int) -> Int[np.ndarray, " count"]:
    """The side of the square that each descriptor of an image describes, in the image's pixels and at most its side.

    The square of a keypoint has the keypoint's size, but is drawn upright.
    """
    options = fitted.config.describe
    sides = np.ones(count)
    if options.name == "sift" and options.detector == "dog":
        found = [sift.SPAN * point.size for point in sift.keypoints(image, options)]
        sides[: len(found)] = found
    elif "cell" in options:
        sides[:] = options.cell * options.block
    elif "sizes" in options:
        sides[:] = dense_sift.sides(image.shape[0], image.shape[1], options)
    else:
        sides[:] = options.size
    return np.clip(np.round(sides / options.scale), 1, min(image.shape[:2])).astype(int)


def _cut(image: Pixels, centre: Float[np.ndarray, " 2"], side: int) -> UInt8[np.ndarray, "side side channels"]:
    """The square around a place, moved so that it lies inside the image."""
    limits: Int[np.ndarray, " 2"] = np.array(image.shape[:2]) - side
    top, left = np.clip(np.round(centre * image.shape[:2] - side / 2).astype(int), 0, np.maximum(limits, 0))
    return image[top : top + side, left : left + side]
