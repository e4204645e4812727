"""Anti-aliased drawing in anatomical coordinates, shared by the three phantoms."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

cv2.setNumThreads(1)  # phantoms are drawn in many processes at once

SUBPIXEL_BITS = 4
CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 24, endpoint=False)) for f in (np.cos, np.sin)], axis=1)  # (24, 2)


@dataclass(frozen=True)
class Pose:
    """Where the anatomy lies on the film: y up in millimetres becomes row down in pixels."""

    px_per_mm: float
    rotation_rad: float
    mirrored: bool
    origin_mm: tuple[float, float]  # the anatomical point that lands on `centre_px`
    centre_px: tuple[float, float]

    def to_px(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, 2) millimetres to (n, 2) pixels (column, row)."""
        flip = np.array([-1.0 if self.mirrored else 1.0, -1.0])
        local = (np.asarray(points_mm, float) - self.origin_mm) * self.px_per_mm * flip
        cos, sin = np.cos(self.rotation_rad), np.sin(self.rotation_rad)
        return local @ np.array([[cos, sin], [-sin, cos]]) + self.centre_px


def fill(layer: np.ndarray, points_px: np.ndarray, value: float) -> None:
    """Paint a polygon over `layer` (uint8)."""
    points = np.round(points_px * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(layer, [points], int(value), cv2.LINE_AA, SUBPIXEL_BITS)


def stroke(layer: np.ndarray, points_px: np.ndarray, value: float, width_px: float) -> None:
    """Paint an open polyline over `layer` (uint8)."""
    points = np.round(points_px * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.polylines(layer, [points], False, int(value), max(1, round(width_px)), cv2.LINE_AA, SUBPIXEL_BITS)


def rotated(points: np.ndarray, angle_rad: float) -> np.ndarray:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return points @ np.array([[cos, sin], [-sin, cos]])


def superellipse(half_width: float, half_height: float, squareness: float) -> np.ndarray:
    """A closed outline between an ellipse (squareness 0) and a rounded box (towards 1)."""
    return np.sign(CIRCLE) * np.abs(CIRCLE) ** (1 - 0.5 * squareness) * [half_width, half_height]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], grid_px: int, film_scale: float = 1.0) -> np.ndarray:
    """Unit-variance grain of `grid_px` base pixels. The random numbers do not depend on `film_scale`, so a film
    drawn larger shows the same grain."""
    rows, cols = round(shape[0] / film_scale / grid_px), round(shape[1] / film_scale / grid_px)
    grain = rng.standard_normal((rows, cols), dtype=np.float32)
    return cv2.resize(grain, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def enlarged(image: np.ndarray, film_scale: float) -> np.ndarray:
    """The drawing on a finer detector. Anatomy is drawn at the base size whatever the film's: polygons and lines
    cover whole pixels, so drawn larger the same bones would be thinner and look younger."""
    if film_scale == 1:
        return image
    size = (round(image.shape[1] * film_scale), round(image.shape[0] * film_scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)


def blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma_px) if sigma_px > 0.2 else image
