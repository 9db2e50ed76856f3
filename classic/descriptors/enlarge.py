"""Images before they are described: enlarged, made grey, or in opponent colours.

Descriptors that were designed for photographs expect more than 28 or 32 pixels.
"""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8


def enlarged(images: UInt8[np.ndarray, "n h w c"], scale: int) -> UInt8[np.ndarray, "n H W c"]:
    """The images, `scale` times as high and wide, interpolated bilinearly."""
    if scale == 1:
        return images
    n, height, width, channels = images.shape
    result = np.empty((n, height * scale, width * scale, channels), np.uint8)
    for image, place in zip(images, result, strict=True):
        larger = cv2.resize(image, (width * scale, height * scale), interpolation=cv2.INTER_LINEAR)
        place[:] = larger.reshape(place.shape)  # OpenCV drops the axis of a single channel
    return result


def grey(images: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w"]:
    """The luminance of images (Rec. 601), or their only channel."""
    if images.shape[-1] == 1:
        return images[..., 0]
    return np.round(images @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)


def opponent(images: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n h w 3"]:
    """The opponent colours intensity, red against green, and yellow against blue, each from 0 to 255."""
    red, green, blue = np.moveaxis(images.astype(np.float32), -1, 0)
    return np.stack([(red + green + blue) / 3, (red - green + 255) / 2, (red + green - 2 * blue + 510) / 4], axis=-1)
