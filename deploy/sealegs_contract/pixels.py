"""Camera images as the policy's pixels: one function for datasets, simulation and the live controller."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import MachineError, ObservationError

Pixels = NDArray[np.uint8]
MAXIMUM_PIXELS = 8192 * 8192  # the largest camera that a robot profile may have


def decode_image(data: bytes, height: int, width: int) -> Pixels:
    """RGB pixels (height, width, 3) uint8 of a JPEG or PNG file; another size is scaled, the whole view is kept.

    Raises ObservationError for a file that is no readable image, MachineError where Pillow is missing.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MachineError("policies that see images need Pillow: pip install pillow") from error
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        if image.width * image.height > MAXIMUM_PIXELS:
            raise ObservationError(f"an image of {image.width} x {image.height} pixels is larger than any camera's")
        # JPEG decodes at a reduced scale several times faster, and never goes below the size asked for.
        image.draft("RGB", (width, height))
        rgb = image.convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise ObservationError(f"an image of {len(data)} bytes is not readable: {error}") from error
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(rgb, dtype=np.uint8)
