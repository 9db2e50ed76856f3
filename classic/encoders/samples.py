"""Checks of the sample of descriptors that an encoder is fitted to."""

import numpy as np
from jaxtyping import Float32

from common.errors import UserError


def check_sample(
    sample: Float32[np.ndarray, "m d"], wanted: int, option: str, what: str, dimensions: bool = False
) -> None:
    """Raises UserError if a sample has numbers that are not finite, or fewer than `wanted` descriptors.

    option: the path of the option that asks for `wanted` of something. what: its name in the plural, such as 'words'.
    dimensions: each descriptor also needs at least `wanted` numbers.
    """
    if not np.isfinite(sample).all():
        count = int((~np.isfinite(sample).all(axis=1)).sum())
        raise UserError(f"{count:,} of {len(sample):,} sampled descriptors hold numbers that are not finite")
    if len(sample) < wanted:
        raise UserError(
            f"{option} asks for {wanted:,} {what}, but the sample has {len(sample):,} descriptors; "
            "expected at most as many"
        )
    if dimensions and sample.shape[1] < wanted:
        raise UserError(
            f"{option} asks for {wanted:,} {what}, but descriptors have {sample.shape[1]:,} numbers; "
            "expected at most as many"
        )
