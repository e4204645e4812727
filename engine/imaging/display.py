"""From a film to the grey levels on screen: the one definition, which the viewer's JavaScript repeats.

For a grey film every pixel value p (0 ... 65535) goes through one table of 65,536 entries:

1. VOI (PS3.3 C.11.2.1), with c = center and w = width in pixel units; t is limited to 0 ... 1:

       linear        w > 1    t = (p - (c - 0.5)) / (w - 1) + 0.5
                     w = 1    t = 0 where p <= c - 0.5, else 1
       linear_exact           t = (p - c) / w + 0.5
       sigmoid                t = 1 / (1 + exp(-4 (p - c) / w))

   and grey = floor(255 t + 0.5), which is JavaScript's Math.round(255 * t). For a lut,
   grey = lut[p - lut_first], the index limited to 0 ... len(lut) - 1.
2. inverted:    grey = 255 - grey, once, after the VOI.
3. background:  grey = 0 for p = film.background (padding, outside the shutter), after the inversion.

A colour film is shown as it is. Centre and width in the unit that a DICOM file uses (modality values) are made into
pixel units, and back, by `to_pixel_window` and `to_modality_window`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from engine.imaging.film import Film, Voi

TABLE_SIZE = 65536


def display_pixels(film: Film, voi: Voi | None = None) -> np.ndarray:
    """What the viewer shows of `film` at `voi` (default: the film's first).

    Returns uint8, (rows, cols) for grey and (rows, cols, 3) for colour."""
    if film.is_colour:
        return film.pixels
    return display_table(voi or film.vois[0], film.inverted, film.background)[film.pixels]


def display_table(voi: Voi, inverted: bool = False, background: int | None = None) -> np.ndarray:
    """Grey level of each of the 65,536 pixel values, uint8. Raises ValueError for a window without a width."""
    grey = voi_table(voi)
    if inverted:
        grey = 255 - grey
    if background is not None:
        grey[background] = 0
    return grey


def voi_table(voi: Voi) -> np.ndarray:
    """Step 1 above for each of the 65,536 pixel values, uint8."""
    pixel = np.arange(TABLE_SIZE, dtype=np.float64)
    if voi.kind == "lut":
        index = np.clip(np.arange(TABLE_SIZE) - voi.lut_first, 0, len(voi.lut) - 1)
        return voi.lut[index]
    smallest = 1 if voi.kind == "linear" else 0
    if not np.isfinite([voi.center, voi.width]).all() or voi.width < smallest or voi.width == 0:
        raise ValueError(f"a {voi.kind} window needs a finite centre and a width, found {voi.center} / {voi.width}")
    if voi.kind == "sigmoid":
        exponent = np.clip(-4 * (pixel - voi.center) / voi.width, -700, 700)
        t = 1 / (1 + np.exp(exponent))
    elif voi.kind == "linear_exact":
        t = (pixel - voi.center) / voi.width + 0.5
    elif voi.width == 1:
        t = (pixel > voi.center - 0.5).astype(np.float64)
    else:
        t = (pixel - (voi.center - 0.5)) / (voi.width - 1) + 0.5
    return np.floor(255 * np.clip(t, 0, 1) + 0.5).astype(np.uint8)


def to_pixel_window(kind: str, center: float, width: float, slope: float, intercept: float) -> tuple[float, float]:
    """Centre and width in pixel units of a window given in modality values (modality = pixel * slope + intercept)."""
    if kind == "linear":  # its half-pixel terms do not scale with the slope
        return (center - 0.5 - intercept) / slope + 0.5, (width - 1) / slope + 1
    return (center - intercept) / slope, width / slope


def to_modality_window(kind: str, center: float, width: float, slope: float, intercept: float) -> tuple[float, float]:
    """The inverse of `to_pixel_window`: what to print beside the film."""
    if kind == "linear":
        return (center - 0.5) * slope + intercept + 0.5, (width - 1) * slope + 1
    return center * slope + intercept, width * slope


def save_png(film: Film, out: Path) -> None:
    """Write what the viewer shows at the film's default window as an 8-bit PNG."""
    Image.fromarray(display_pixels(film)).save(out, format="PNG")
