"""Poolings in layer tables, which list modules only."""

from flax import linen as nn

from common.nn.layers import max_pool


class Pool(nn.Module):
    """Max pooling."""

    @nn.compact
    def __call__(self, images, window, stride):
        return max_pool(images, window, stride)


def pool_as_a_row(images, window, stride):
    """`max_pool` as a module of the network that calls it: put in its place, it has a row of its own."""
    return Pool()(images, window, stride)
