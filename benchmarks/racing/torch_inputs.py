"""The input pipeline that PyTorch's users have: torchvision's usual transforms behind `torch.utils.data.DataLoader`."""

import functools
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator

_CROP = 224  # pixels


def loader(root: pathlib.Path, batch_size: int, workers: int) -> Callable[[int], float]:
    """A function that takes n batches from a loader and returns the seconds that this took.

    root: ROOT/<class>/*.jpg. workers: processes. The transforms are those of torchvision's reference training: a random
    crop of random size, resized to 224 pixels, mirrored half of the time, normalised.
    """
    import torch
    from torchvision import datasets, transforms

    prepare = transforms.Compose(
        [
            transforms.RandomResizedCrop(_CROP),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    batches = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(root), prepare),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
    )
    if not len(batches):
        raise ValueError(f"a batch of {batch_size} is larger than the dataset")
    return functools.partial(_seconds, _endless(batches))


def _endless(batches: Iterable) -> Iterator:
    while True:
        yield from batches


def _seconds(stream: Iterator, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        next(stream)
    return time.perf_counter() - started
