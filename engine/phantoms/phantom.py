"""What a phantom is: pixels as a detector stores them, and the truth it was drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from engine.findings.answers import Answer, View
from engine.imaging.film import Film, FilmTags, Voi


@dataclass(frozen=True)
class Phantom:
    """`pixels`: (rows, cols) uint16 detector values, or (rows, cols, 3) uint8 for a fundus image.

    `answer` is the label, `truth` what else the generator knows (every centre's maturity, the zone ratio, whether
    the finding was drawn subtle). `age_months` is chronological."""

    view: View
    pixels: np.ndarray
    answer: Answer
    truth: dict[str, Any]
    seed: int
    site: str
    laterality: Literal["L", "R"]
    sex: Literal["M", "F"]
    age_months: float
    window: tuple[float, float] | None = None  # centre, width the "vendor" wrote; None for colour
    monochrome1: bool = False
    spacing_mm: float | None = None  # at the detector
    tags: FilmTags = field(default_factory=lambda: FilmTags(made_by_phantom=True))

    def film(self) -> Film:
        """The phantom as ingest would see its file."""
        vois = () if self.window is None else (Voi("window 1", "linear", self.window[0], self.window[1]),)
        return Film(self.pixels, "dicom", vois, inverted=self.monochrome1, tags=self.tags)
