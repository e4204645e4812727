"""PNG and JPEG to Film. Such a file says nothing about the child: whoever hands it in has to."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from engine.errors import FileRefused
from engine.imaging.film import PHANTOM_MANUFACTURER, Film, FilmTags, Voi
from engine.imaging.limits import check_size
from engine.imaging.voi import automatic_window

Image.MAX_IMAGE_PIXELS = None  # check_size refuses, with a reason, before Pillow would

DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
AS_STORED = Voi("as stored", "linear_exact", 127.5, 255.0)  # grey = pixel, exactly


def read_photo(path: Path) -> Film:
    """A PNG or JPEG of one of Pillow's grey, palette or colour modes. Called in the decode process.

    8-bit grey is shown as it is stored, 16-bit grey (which has no window) at the automatic one. Colour whose three
    channels are equal everywhere is a radiograph saved as RGB and becomes grey. EXIF orientation is applied,
    transparency laid over black. Raises FileRefused."""
    with path.open("rb") as file:
        try:
            image = Image.open(file, formats=("PNG", "JPEG"))
            check_size(image.height, image.width, f"The {image.format} header")
            image.load()
            image = ImageOps.exif_transpose(image)
        except DAMAGED as error:
            cut = "truncated" in str(error) or "Truncated" in str(error) or isinstance(error, EOFError)
            code, what = ("truncated", "ends too early") if cut else ("malformed", "is damaged")
            raise FileRefused(code, f"The image file {what} and cannot be decoded.") from error
    warnings: list[str] = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        warnings.append(f"The file is an animation of {frames} images; only the first is shown.")
    pixels = _pixels(image, warnings)
    vois: tuple[Voi, ...] = ()
    if pixels.dtype == np.uint16:
        deep = image.mode.startswith("I")
        automatic = automatic_window(pixels)
        vois = (automatic, Voi("full range", "linear_exact", 32767.5, 65535.0)) if deep else (AS_STORED, automatic)
        if deep:
            warnings.append("The file is 16-bit grey without a window: the automatic window is shown.")
    return Film(
        pixels=pixels,
        source_format="png" if image.format == "PNG" or path.read_bytes()[:4] == b"\x89PNG" else "jpeg",
        vois=vois,
        warnings=tuple(warnings),
        tags=FilmTags(made_by_phantom=image.info.get("Software") == PHANTOM_MANUFACTURER),
    )


def _pixels(image: Image.Image, warnings: list[str]) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey: I;16, I;16B or, in older files, I
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
    if image.mode == "1":
        image = image.convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            warnings.append("The image has transparent parts: they are shown on black.")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    elif image.mode == "CMYK":
        warnings.append("The image is in CMYK (print) colours: they are converted without a colour profile.")
    return grey_where_achromatic(np.asarray(image if image.mode == "L" else image.convert("RGB")))


def grey_where_achromatic(pixels: np.ndarray) -> np.ndarray:
    """uint8 pixels as a film keeps them: grey as uint16, and RGB with three equal channels as grey too."""
    if pixels.ndim == 2:
        return pixels.astype(np.uint16)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red.astype(np.uint16)
    return np.ascontiguousarray(pixels)
