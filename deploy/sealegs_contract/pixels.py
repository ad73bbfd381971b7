"""Camera images as the policy's pixels: one function for datasets, simulation and the live controller."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import MachineError, ObservationError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
MAXIMUM_PIXELS = 8192 * 8192  # the largest camera that a robot profile may have


def decode_image(data: bytes, height: int, width: int) -> Pixels:
    """RGB pixels (height, width, 3) uint8 of a JPEG or PNG file; another size is scaled, the whole view is kept.

    Raises ObservationError for a file that is no readable image, MachineError where Pillow is missing.
    """
    rgb = decode_rgb(data, (width, height))
    if rgb.size != (width, height):
        from PIL.Image import Resampling

        rgb = rgb.resize((width, height), Resampling.BILINEAR)
    return np.asarray(rgb, dtype=np.uint8)


def decode_rgb(data: bytes, smallest: tuple[int, int] | None = None) -> Image:
    """An RGB image; with `smallest` (width, height) wanted, perhaps at a reduced scale, but never below that.

    Raises as `decode_image` does.
    """
    image = open_image(data)
    try:
        if smallest:
            # Decoding JPEG at a reduced scale is several times faster.
            image.draft("RGB", smallest)
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ObservationError(f"an image of {len(data)} bytes is not readable: {error}") from error


def open_image(data: bytes) -> Image:
    """A JPEG or PNG file of which only the header was read: it promises no more pixels than a camera may have.

    Raises as `decode_image` does.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MachineError("images need Pillow: pip install pillow") from error
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise ObservationError(f"an image of {len(data)} bytes is not readable: {error}") from error
    if image.width * image.height > MAXIMUM_PIXELS:
        raise ObservationError(f"an image of {image.width} x {image.height} pixels is larger than any camera's")
    return image
