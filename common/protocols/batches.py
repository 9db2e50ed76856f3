"""Batches of views of test images, grouped by shape and bounded in memory."""

import collections
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, Int, UInt8

ViewsOfAnyShape = UInt8[np.ndarray, "_ _ _ _"] | Float[np.ndarray, "_ _ _ _"]
Indices = Int[np.ndarray, " batch"]

_WAITING = 4  # batches: the most pixels of views that wait for others of their shape


def group_by_shape(
    examples: Iterable[tuple[ViewsOfAnyShape, int]], pixels: int, multiple: int
) -> Iterator[tuple[ViewsOfAnyShape, Indices, Indices]]:
    """Yields batches of views of one shape, with the index and the label of each view's example.

    examples: the views and the label of each. pixels, multiple: see `batch_size`. All batches of a shape have the
    same size; the rows that pad a batch have index and label -1.
    """
    waiting, held, made = collections.defaultdict(list), 0, set()
    for index, (views, label) in enumerate(examples):
        shape = views.shape[1:]
        area, size = shape[0] * shape[1], batch_size(shape, pixels, multiple)
        for view in views:
            waiting[shape].append((view, index, label))
            held += area
            if len(waiting[shape]) == size or held > _WAITING * pixels:
                fullest = max(waiting, key=lambda shape: len(waiting[shape]) / batch_size(shape, pixels, multiple))
                held -= len(waiting[fullest]) * fullest[0] * fullest[1]
                made.add(fullest)
                yield _batch(waiting.pop(fullest), batch_size(fullest, pixels, multiple))
    for shape, views in waiting.items():
        size = batch_size(shape, pixels, multiple) if shape in made else -(-len(views) // multiple) * multiple
        yield _batch(views, size)


def batch_size(shape: tuple[int, ...], pixels: int, multiple: int) -> int:
    """The number of views in a batch of a shape: the largest multiple of `multiple` with at most `pixels` in total.

    It is at least `multiple`.
    """
    return max(pixels // (shape[0] * shape[1]) // multiple, 1) * multiple


def _batch(waiting: list[tuple[np.ndarray, int, int]], size: int) -> tuple[ViewsOfAnyShape, Indices, Indices]:
    views = np.zeros((size, *waiting[0][0].shape), waiting[0][0].dtype)
    indices, labels = np.full(size, -1), np.full(size, -1)
    for row, (view, index, label) in enumerate(waiting):
        views[row], indices[row], labels[row] = view, index, label
    return views, indices, labels
