"""A Film: one decoded image and everything the display and the reader need to know about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Voi:
    """One way to map stored values to grey, named as in the file.

    `center` and `width` are in the unit of `Film.pixels` (the viewer's unit). A VOI LUT has `lut` instead:
    grey levels 0-255 for the stored values `lut_first` ... `lut_first + len(lut) - 1`, clamped at both ends."""

    name: str  # (0028,1055) explanation, or "window 1", "VOI LUT 1", "automatic"
    kind: Literal["linear", "linear_exact", "sigmoid", "lut"]
    center: float | None = None
    width: float | None = None  # at least 1 for linear, more than 0 for linear_exact and sigmoid
    lut: np.ndarray | None = None  # uint8
    lut_first: int = 0


@dataclass(frozen=True)
class Film:
    """`pixels`: (rows, cols) uint16 for grey, (rows, cols, 3) uint8 for colour.

    Grey pixels are modality values made non-negative: modality value = pixels * slope + intercept, slope > 0.
    `inverted` is the single MONOCHROME1 / Presentation LUT Shape inversion, applied after the VOI.
    `background` is the pixel value (always 0) that marks what lies outside the image (pixel padding, outside the
    shutter): black whatever the VOI and the inversion. None where the film has no such pixels.
    `vois[0]` is the default; empty for colour. Spacing is (row, column) in mm, None where the file does not say;
    `spacing_source` says what it may be called on screen. Pixels are square: a film whose file says otherwise has
    been resampled. engine/imaging/display.py says exactly how a film becomes grey levels."""

    pixels: np.ndarray
    source_format: Literal["dicom", "png", "jpeg"]
    vois: tuple[Voi, ...] = ()
    inverted: bool = False
    background: int | None = None
    slope: float = 1.0
    intercept: float = 0.0
    spacing_mm: tuple[float, float] | None = None
    spacing_source: Literal["calibrated", "detector", None] = None
    warnings: tuple[str, ...] = ()
    tags: FilmTags = field(default_factory=lambda: FilmTags())

    @property
    def is_colour(self) -> bool:
        return self.pixels.ndim == 3


@dataclass(frozen=True)
class FilmTags:
    """What the file says about the child and the examination. None means the file does not say."""

    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    accession_number: str | None = None
    modality: str | None = None
    patient_id: str | None = None
    issuer_of_patient_id: str | None = None
    patient_name: str | None = None
    patient_sex: Literal["M", "F", None] = None
    patient_birth_date: date | None = None
    patient_age_text: str | None = None  # (0010,1010), e.g. 008Y
    acquired_on: date | None = None  # acquisition date, else study date
    laterality: Literal["L", "R", None] = None
    body_part: str | None = None
    anatomic_region: str | None = None  # code meaning of (0008,2218)
    study_description: str | None = None
    view_position: str | None = None
    institution: str | None = None
    station: str | None = None
    manufacturer: str | None = None
    image_type: tuple[str, ...] = ()
    presentation_intent: str | None = None
    burned_in_annotation: str | None = None
    frames: int = 1  # the film is the first of them
    transfer_syntax_uid: str | None = None
    made_by_phantom: bool = False  # Manufacturer, or the PNG text "Software", is PHANTOM_MANUFACTURER


PHANTOM_MANUFACTURER = "PediScreen phantom"
REPORT_MANUFACTURER = "PediScreen"  # of the reports that leave from here (engine.interop), which are no films


def hash_pixels(film: Film) -> str:
    """SHA-256 over shape and stored values: equal for two files that hold the same picture under other tags."""
    digest = hashlib.sha256(repr(film.pixels.shape).encode())
    digest.update(film.pixels.tobytes())
    return digest.hexdigest()
