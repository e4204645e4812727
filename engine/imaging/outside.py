"""What of a radiograph is not image: pixel padding and the display shutter (black), and the collimator's shadow."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from engine.imaging.stored_pixels import StoredPixels, mask
from engine.imaging.tag_reader import TagReader

SHUTTER = {
    "shape": "ShutterShape",
    "edges": tuple(
        f"Shutter{edge}"
        for edge in ("UpperHorizontalEdge", "LowerHorizontalEdge", "LeftVerticalEdge", "RightVerticalEdge")
    ),
    "center": "CenterOfCircularShutter",
    "radius": "RadiusOfCircularShutter",
    "vertices": "VerticesOfThePolygonalShutter",
}
COLLIMATOR = {
    "shape": "CollimatorShape",
    "edges": tuple(name.replace("Shutter", "Collimator") for name in SHUTTER["edges"]),
    "center": "CenterOfCircularCollimator",
    "radius": "RadiusOfCircularCollimator",
    "vertices": "VerticesOfThePolygonalCollimator",
}
LEAST_VISIBLE = 0.01  # of the image: an aperture smaller than that is a mistake in the file


def background(stored: StoredPixels, tags: TagReader, warnings: list[str]) -> np.ndarray | None:
    """(rows, cols) bool: pixels that are padding or outside the display shutter. None where there are none."""
    hidden = np.zeros(stored.values.shape, bool)
    padding = _padding(stored, tags)
    if padding is not None:
        if padding.all():
            warnings.append("(0028,0120) Pixel Padding Value would hide the whole image: it is not followed.")
        else:
            hidden |= padding
    aperture, problem = _aperture(stored.values.shape, tags, SHUTTER)
    if problem:
        warnings.append(f"(0018,1600) Shutter Shape: {problem}: the shutter is not followed.")
    elif aperture is not None:
        hidden |= ~aperture
    return hidden if hidden.any() and not hidden.all() else None


def not_exposed(shape: tuple[int, int], hidden: np.ndarray | None, tags: TagReader) -> np.ndarray | None:
    """`hidden` and what the collimator kept from exposure: left out of the automatic window, but shown."""
    aperture, _ = _aperture(shape, tags, COLLIMATOR)
    if aperture is None:
        return hidden
    return ~aperture if hidden is None else hidden | ~aperture


def _padding(stored: StoredPixels, tags: TagReader) -> np.ndarray | None:
    value = tags.integer("PixelPaddingValue")
    if value is None:
        return None
    limit = tags.integer("PixelPaddingRangeLimit")
    # The tags may be read with the wrong sign; the pixels' own bits and sign decide.
    ends = np.array([value, value if limit is None else limit], np.int64).astype(np.uint16)
    first, last = sorted(int(end) for end in mask(ends, stored.bits, stored.bits - 1, stored.is_signed))
    return (stored.values >= first) & (stored.values <= last)


def _aperture(shape: tuple[int, int], tags: TagReader, names: dict) -> tuple[np.ndarray | None, str | None]:
    """(rows, cols) bool of what an aperture lets through (PS3.3 C.7.6.11, C.8.7.3), or what is wrong with it.

    Positions count from 1, rows before columns; several shapes are combined by intersection."""
    kinds = [kind.upper() for kind in tags.texts(names["shape"]) if kind]
    if not kinds:
        return None, None
    rows, cols = shape
    visible = np.ones(shape, bool)
    for kind in kinds:
        if kind == "RECTANGULAR":
            edges = [tags.integer(name) for name in names["edges"]]
            if None in edges:
                return None, "an edge of the rectangle is missing"
            top, bottom, left, right = edges
            inside = np.zeros(shape, bool)
            inside[max(top - 1, 0) : max(bottom, 0), max(left - 1, 0) : max(right, 0)] = True
        elif kind == "CIRCULAR":
            center, radius = tags.numbers(names["center"]), tags.number(names["radius"])
            if center is None or len(center) != 2 or radius is None:
                return None, "the circle's centre or radius is missing"
            row, col = np.ogrid[1 : rows + 1, 1 : cols + 1]
            inside = (row - center[0]) ** 2 + (col - center[1]) ** 2 <= radius**2
        elif kind == "POLYGONAL":
            vertices = tags.numbers(names["vertices"]) or []
            if len(vertices) < 6 or len(vertices) % 2:
                return None, "the polygon has fewer than three corners"
            canvas = Image.new("1", (cols, rows))
            corners = [(x - 1, y - 1) for y, x in zip(vertices[::2], vertices[1::2], strict=True)]
            ImageDraw.Draw(canvas).polygon(corners, fill=1)
            inside = np.asarray(canvas)
        else:
            return None, f"{kind} is not a shape that is supported here"
        visible &= inside
    if visible.mean() < LEAST_VISIBLE:
        return None, "it would hide the whole image"
    return visible, None
