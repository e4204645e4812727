"""A DICOM file to a Film: stored values, then the modality LUT or rescale, then the ways to display them.

What each tag must do is in docs/dicom-conformance.md. Nothing is guessed: what the file does not say is None, and
what it says wrongly is a warning."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset, config, dcmread
from pydicom.errors import InvalidDicomError

from engine.errors import FileRefused
from engine.imaging import outside
from engine.imaging.dicom_tags import film_tags, pixel_aspect, spacing
from engine.imaging.film import Film, Voi
from engine.imaging.limits import MAX_PIXELS
from engine.imaging.photo import grey_where_achromatic
from engine.imaging.stored_pixels import StoredPixels, stored_pixels
from engine.imaging.tag_reader import UNREADABLE, TagReader
from engine.imaging.voi import automatic_window, is_blank, lookup_table, vois_of

config.settings.reading_validation_mode = config.IGNORE  # TagReader judges values when it reads them

LARGEST_PIXEL = 65535


def read_dicom(path: Path) -> Film:
    """Decode a DICOM file, with or without preamble and meta header. Called in the decode process.

    Raises FileRefused. Whether the study may enter is for engine.imaging.admission to say."""
    return dataset_film(_dataset(path))


def read_stored_values(path: Path) -> Film:
    """The pixels as they are stored, with nothing applied; signed ones as the uint16 of the same bits. Called in
    the decode process. Raises FileRefused."""
    stored = stored_pixels(_dataset(path), [])
    values = stored.values
    if values.ndim == 2:
        values = values.astype(np.int16 if stored.is_signed else np.uint16).view(np.uint16)
    return Film(values, "dicom")


def _dataset(path: Path) -> Dataset:
    try:
        with path.open("rb") as file:
            return dcmread(file, force=True)
    except EOFError as error:
        raise FileRefused("truncated", "The file ends within its header: send it again.") from error
    except OSError as error:
        if error.errno is not None:  # the disk's, not pydicom's
            raise
        raise FileRefused("truncated", "The file ends within a sequence, or a length in it is wrong.") from error
    except (*UNREADABLE, InvalidDicomError, zlib.error, struct.error) as error:
        raise FileRefused("malformed", "The file is marked as DICOM but its data set cannot be read.") from error


def dataset_film(dataset: Dataset) -> Film:
    """The film of a data set in memory. The data set may be completed with default values on the way."""
    warnings: list[str] = []
    lift_frame_groups(dataset)
    tags = TagReader(dataset)
    stored = stored_pixels(dataset, warnings)
    spacing_mm, spacing_source = spacing(tags, warnings)
    if stored.photometric in ("MONOCHROME1", "MONOCHROME2"):
        film = _grey_film(stored, tags, warnings)
    else:
        film = _colour_film(stored)
    pixels, spacing_mm = _square_pixels(film, spacing_mm, pixel_aspect(tags), warnings)
    film_tag_values = film_tags(tags, stored, warnings)
    warnings += [f"{name} cannot be read and is treated as missing." for name in tags.unreadable]
    return Film(
        pixels=pixels,
        source_format="dicom",
        vois=film.vois,
        inverted=film.inverted,
        background=film.background,
        slope=film.slope,
        intercept=film.intercept,
        spacing_mm=spacing_mm,
        spacing_source=spacing_source,
        warnings=tuple(dict.fromkeys(warnings)),
        tags=film_tag_values,
    )


# What an enhanced object says for each frame, by the functional group that holds it.
FRAME_GROUPS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": (
        "WindowCenter",
        "WindowWidth",
        "WindowCenterWidthExplanation",
        "VOILUTFunction",
        "VOILUTSequence",
    ),
    "PixelMeasuresSequence": ("PixelSpacing",),
    "FrameAnatomySequence": ("FrameLaterality", "AnatomicRegionSequence"),
}


def lift_frame_groups(dataset: Dataset) -> None:
    """Copy what an enhanced object says of its first frame to where other objects say it, if nothing is there."""
    for groups_keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for groups in TagReader(dataset).items(groups_keyword)[:1]:
            for group_keyword, keywords in FRAME_GROUPS.items():
                for group in TagReader(groups).items(group_keyword)[:1]:
                    for keyword in keywords:
                        if keyword in group and keyword not in dataset:
                            dataset[keyword] = group[keyword]


def _colour_film(stored: StoredPixels) -> Film:
    pixels = grey_where_achromatic(stored.values)
    vois = () if pixels.ndim == 3 else (Voi("as stored", "linear_exact", 127.5, 255.0), automatic_window(pixels))
    return Film(pixels, "dicom", vois)


def _grey_film(stored: StoredPixels, tags: TagReader, warnings: list[str]) -> Film:
    values = stored.values
    hidden = outside.background(stored, tags, warnings)
    if hidden is not None:  # a padding value may lie far from the image's own
        values = np.where(hidden, values.min(where=~hidden, initial=values.max()), values)
    pixels, slope, intercept = _modality_pixels(values, tags, hidden is not None, warnings)
    if hidden is not None:
        pixels[hidden] = 0
    vois = vois_of(tags, slope, intercept, int(pixels.max()), warnings)
    automatic = automatic_window(pixels, outside.not_exposed(pixels.shape, hidden, tags))
    if not vois:
        warnings.append("The file has no usable window or VOI LUT: the automatic window is shown.")
    return Film(
        pixels,
        "dicom",
        vois=(*vois, automatic),
        inverted=_is_inverted(stored.photometric, tags, warnings),
        background=0 if hidden is not None else None,
        slope=slope,
        intercept=intercept,
    )


def _modality_pixels(
    values: np.ndarray, tags: TagReader, keep_zero_free: bool, warnings: list[str]
) -> tuple[np.ndarray, float, float]:
    """Stored values to film pixels (uint16), and slope > 0 and intercept from these to modality values.

    `keep_zero_free` leaves pixel value 0 to the background."""
    slope, intercept = 1.0, 0.0
    luts = [item for item in tags.items("ModalityLUTSequence") if not is_blank(item)]
    if luts:
        try:
            table = lookup_table(luts[0], "Modality LUT", int(values.min()) < 0, warnings)
        except ValueError as error:
            raise FileRefused("malformed", f"The Modality LUT is not usable: {error}.") from error
        values = table(values)
    else:
        slope, intercept = _rescale(tags)
        if slope < 0:  # count downwards, so that a larger pixel is a larger modality value
            highest = int(values.max())
            values = np.subtract(highest, values, dtype=np.int32)
            slope, intercept = -slope, intercept + slope * highest
    lowest = min(int(values.min()), 0)
    shift = -lowest
    if keep_zero_free and int(values.min()) + shift < 1:
        shift += 1
    overflows = int(values.max()) + shift > LARGEST_PIXEL  # all 65,536 values are in use
    shift -= overflows
    pixels = np.add(values, shift, dtype=np.int32).astype(np.uint16)
    if overflows:  # the lowest two become one
        np.maximum(pixels, 1, out=pixels)
    return pixels, slope, intercept - shift * slope


def _rescale(tags: TagReader) -> tuple[float, float]:
    slope, intercept = tags.number("RescaleSlope"), tags.number("RescaleIntercept")
    slope, intercept = (1.0 if slope is None else slope), (0.0 if intercept is None else intercept)
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        raise FileRefused(
            "malformed",
            f"(0028,1053) Rescale Slope must be a number other than 0, found {slope:g} "
            f"(with (0028,1052) Rescale Intercept {intercept:g}).",
        )
    return slope, intercept


def _is_inverted(photometric: str, tags: TagReader, warnings: list[str]) -> bool:
    """The one inversion. Presentation LUT Shape decides where it is there, as in DCMTK; a contradiction is said."""
    by_photometric = photometric == "MONOCHROME1"
    shape = (tags.text("PresentationLUTShape") or "").upper()
    if shape not in ("IDENTITY", "INVERSE"):
        return by_photometric
    if (shape == "INVERSE") != by_photometric:
        warnings.append(
            f"(2050,0020) Presentation LUT Shape {shape} contradicts (0028,0004) Photometric Interpretation "
            f"{photometric}: the shape is followed. Check that bone is bright, and invert if it is not."
        )
    return shape == "INVERSE"


def _square_pixels(
    film: Film, spacing_mm: tuple[float, float] | None, aspect: float | None, warnings: list[str]
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Resample so that pixels are square: bilinear along the coarser axis, never losing rows or columns.

    `aspect` is the height of a pixel over its width."""
    pixels = film.pixels
    if aspect is None or abs(aspect - 1) < 0.001:
        return pixels, spacing_mm
    rows, cols = pixels.shape[:2]
    new_rows, new_cols = (round(rows * aspect), cols) if aspect > 1 else (rows, round(cols / aspect))
    if not 0.1 <= aspect <= 10 or new_rows * new_cols > MAX_PIXELS:
        warnings.append(f"The file says that pixels are {aspect:g} times as high as wide: this is not followed.")
        return pixels, spacing_mm
    warnings.append(f"Pixels are {aspect:.4g} times as high as wide: the image was resampled to square pixels.")
    if spacing_mm is not None:
        spacing_mm = (min(spacing_mm), min(spacing_mm))
    if film.is_colour:
        return np.asarray(Image.fromarray(pixels).resize((new_cols, new_rows), Image.Resampling.BILINEAR)), spacing_mm
    smooth = Image.fromarray(pixels.astype(np.float32)).resize((new_cols, new_rows), Image.Resampling.BILINEAR)
    resampled = np.floor(np.asarray(smooth) + 0.5).astype(np.uint16)
    if film.background is not None:  # it is no grey level: it must not blend into its neighbours
        hidden = Image.fromarray((pixels == film.background).astype(np.uint8) * 255)
        hidden = np.asarray(hidden.resize((new_cols, new_rows), Image.Resampling.BILINEAR)) > 0
        resampled = np.where(hidden, film.background, np.maximum(resampled, 1)).astype(np.uint16)
    return resampled, spacing_mm
