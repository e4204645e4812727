"""What a film looks like in four numbers, to notice when films begin to look different."""

from __future__ import annotations

import dataclasses

import numpy as np

from engine.imaging.display import display_pixels
from engine.imaging.film import Film

MOST_ROWS = 256  # every so-manieth pixel is enough
DARK = 0.05


@dataclasses.dataclass(frozen=True)
class PixelStatistics:
    """Of the film as the viewer shows it at the default window, thinned to at most MOST_ROWS rows and columns; 0 is
    black, 1 white. `dark_share`: of the pixels, those below DARK. `sharpness`: mean absolute difference between
    neighbours in a row and in a column."""

    mean: float
    spread: float  # standard deviation
    dark_share: float
    sharpness: float


def pixel_statistics(film: Film) -> PixelStatistics:
    step = max(1, -(-max(film.pixels.shape[:2]) // MOST_ROWS))
    shown = display_pixels(dataclasses.replace(film, pixels=film.pixels[::step, ::step])).astype(float) / 255
    grey = shown if shown.ndim == 2 else shown.mean(axis=2)
    steps = np.concatenate([np.abs(np.diff(grey, axis=axis)).ravel() for axis in (0, 1)])
    return PixelStatistics(
        mean=float(grey.mean()),
        spread=float(grey.std()),
        dark_share=float((grey < DARK).mean()),
        sharpness=float(steps.mean()) if steps.size else 0.0,
    )
