"""PNG files whose header announces any number of pixels."""

import io
import zlib

from PIL import Image

SIZE = slice(16, 24)  # the width and the height, which begin the data of the header
DATA = slice(16, 29)
CHECKSUM = slice(29, 33)  # of the header's name and data


def announcing(width: int, height: int) -> bytes:
    """A file with one pixel whose header says `width` x `height`, both below 2**32."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[SIZE] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[CHECKSUM] = zlib.crc32(b"IHDR" + content[DATA]).to_bytes(4, "big")
    return bytes(content)
