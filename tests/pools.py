"""Pooling as a module, so that layer tables, which list modules only, have a row for it."""

from flax import linen as nn

from common.nn.layers import max_pool


class Pool(nn.Module):
    """Max pooling."""

    @nn.compact
    def __call__(self, images, window, stride):
        return max_pool(images, window, stride)


def pool_as_a_row(images, window, stride):
    """`max_pool` as a module. A test puts it in the place of `max_pool`, so that it has a row of its own."""
    return Pool()(images, window, stride)
