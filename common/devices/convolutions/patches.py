"""Convolutions as products of patches with the kernel.

Training on one image at a time runs in a loop (`lax.scan`, `lax.fori_loop`), where XLA's own convolution takes more
than twice as long on a CPU.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "kernel_height kernel_width channels maps"]
Maps = Float[Array, "batch out_height out_width maps"]
Patches = Float[Array, "kernel_height kernel_width channels batch out_height out_width"]


def convolution(images: Images, kernel: Kernel, strides: int = 1) -> Maps:
    """Convolution without padding; the kernel is not flipped."""
    height, width, _, maps = kernel.shape
    pixels = patches(images, height, width, strides)
    *_, batch, out_height, out_width = pixels.shape
    outputs = pixels.reshape(-1, batch * out_height * out_width).T @ kernel.reshape(-1, maps)
    return outputs.reshape(batch, out_height, out_width, maps)


def patches(images: Images, kernel_height: int, kernel_width: int, strides: int = 1) -> Patches:
    """The pixels that each place of a kernel meets.

    Slicing along the width and then the height makes 5 + 5 copies for a 5x5 kernel instead of 25. Channels go first so
    that each copy moves runs of neighbouring pixels.
    """
    _, height, width, _ = images.shape
    pixels = jnp.moveaxis(images, -1, 0)
    pixels = jnp.stack([pixels[..., column] for column in _slices(kernel_width, width, strides)])
    return jnp.stack([pixels[..., row, :] for row in _slices(kernel_height, height, strides)])


def _slices(kernel_size: int, size: int, strides: int) -> list[slice]:
    """The pixels that each offset in the kernel meets along one axis of the image."""
    return [slice(start, size - kernel_size + start + 1, strides) for start in range(kernel_size)]
