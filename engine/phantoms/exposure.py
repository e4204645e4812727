"""From drawn attenuation to what a site's detector stores: exposure, blur, noise, collimation, markers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from engine.phantoms.drawing import blur, smooth_noise

Range = tuple[float, float]
BAND_PERIOD_PX: Range = (15, 17)  # base pixels; of the stripes that a plate reader's scan leaves
BAND_TILT_RAD = 0.14  # a plate lies a little crooked in the reader


@dataclass(frozen=True)
class Site:
    """How one hospital's images look and how its readers read. Ranges are drawn from uniformly, film by film; px are
    base pixels (a film 640 rows high).

    Site B is a hospital with older imaging plates: its films are less sharp than any of site A's (`blur_px`) and show
    the stripes of the plate reader's scan (`banding`). The last two make it worth learning: its readers hold bone age
    against a local standard, and its children often show growth arrest lines, dense lines across the metaphysis that
    pass for a buckle.

    Site V is no hospital: site A with every look between the two, which a vision tower learns to see."""

    name: str
    institution: str
    modality: str  # of its radiographs
    gamma: Range  # of the display curve; below 1 lifts soft tissue
    gain: Range
    offset: Range  # grey levels
    blur_px: Range
    noise_sd: Range  # grey levels
    edge_enhancement: Range  # share of an unsharp mask that the vendor's processing adds
    soft_tissue: Range  # thickness relative to site A
    rotation_deg: float
    collimated_share: float
    marker_share: float
    monochrome1: bool
    bits_stored: int
    banding: Range = (0.0, 0.0)  # grey levels, amplitude of the stripes
    local_standard: float = 1.0  # bone age as its readers give it, over Greulich-Pyle
    growth_arrest_share: float = 0.0  # of wrists


SITES = {
    "A": Site(
        "A", "Phantom Children's Hospital A", "DX", gamma=(0.8, 1.35), gain=(0.8, 1.05),
        offset=(0, 18), blur_px=(0.4, 1.6), noise_sd=(3, 12), edge_enhancement=(0.0, 0.15), soft_tissue=(0.85, 1.15),
        rotation_deg=14, collimated_share=0.6, marker_share=0.8, monochrome1=False, bits_stored=12,
    ),
    "B": Site(
        "B", "Phantom Children's Hospital B", "CR", gamma=(0.85, 1.2), gain=(0.85, 1.05),
        offset=(4, 18), blur_px=(1.8, 2.5), noise_sd=(5, 12), edge_enhancement=(0.0, 0.15), soft_tissue=(0.95, 1.15),
        rotation_deg=14, collimated_share=0.8, marker_share=1.0, monochrome1=True, bits_stored=10,
        banding=(4.5, 6.5), local_standard=1.06, growth_arrest_share=0.8,
    ),
}  # fmt: skip
SITES["V"] = replace(
    SITES["A"], name="V", institution="Phantom studio", blur_px=(0.4, 2.6), banding=(0.0, 8.0), growth_arrest_share=0.5
)


@dataclass(frozen=True)
class Banding:
    """Stripes across the film."""

    amplitude: float  # grey levels
    period_px: float
    tilt_rad: float

    @classmethod
    def draw(cls, rng: np.random.Generator, site: Site) -> Banding:
        return cls(rng.uniform(*site.banding), rng.uniform(*BAND_PERIOD_PX), rng.uniform(-BAND_TILT_RAD, BAND_TILT_RAD))

    def add_to(self, grey: np.ndarray, film_scale: float) -> None:
        if self.amplitude:
            row, col = np.ogrid[: grey.shape[0], : grey.shape[1]]
            along = (row * np.cos(self.tilt_rad) + col * np.sin(self.tilt_rad)).astype(np.float32)
            grey += np.float32(self.amplitude) * np.sin(along * np.float32(2 * np.pi / (self.period_px * film_scale)))


def expose(
    rng: np.random.Generator, attenuation: np.ndarray, site: Site, banding: Banding, laterality: str, film_scale: float
) -> tuple[np.ndarray, tuple[float, float]]:
    """`attenuation`: (rows, cols) float32 grey levels, about 0-255. Returns the stored values (uint16) and the
    default window (centre, width) as the vendor would write it."""
    rows, cols = attenuation.shape
    grey = np.power(np.clip(attenuation, 0, 255) / 255, np.float32(rng.uniform(*site.gamma)))
    grey = grey * np.float32(rng.uniform(*site.gain) * 255) + np.float32(rng.uniform(*site.offset))
    amount = np.float32(rng.uniform(*site.edge_enhancement))
    grey = blur(grey, rng.uniform(*site.blur_px) * film_scale)
    grey = grey + amount * (grey - blur(grey, 5 * film_scale))
    grey = grey + np.float32(rng.uniform(*site.noise_sd)) * smooth_noise(rng, (rows, cols), 1, film_scale)
    banding.add_to(grey, film_scale)

    margins = rng.uniform(0, 34, 4) * film_scale
    shade = rng.uniform(0, 12)
    if rng.random() < site.collimated_share:
        top, bottom, left, right = margins.astype(int)
        grey[:top], grey[rows - bottom :], grey[:, :left], grey[:, cols - right :] = shade, shade, shade, shade
    _stamp_marker(rng, grey, laterality, site.marker_share, film_scale)

    top_value = (1 << site.bits_stored) - 1
    stored = np.clip(np.round(grey * (0.72 * top_value / 255) + 0.08 * top_value), 0, top_value).astype(np.uint16)
    overview = cv2.resize(
        stored, (round(cols / film_scale / 4), round(rows / film_scale / 4)), interpolation=cv2.INTER_AREA
    )
    low, high = np.percentile(overview, (1.5, 99.7))
    low, high = low * rng.uniform(0.9, 1.05), high * rng.uniform(0.97, 1.08)
    width = max(float(round(high - low)), 32.0)
    center = float(round((high + low) / 2))
    if site.monochrome1:
        stored, center = top_value - stored, top_value - center
    return stored, (center, width)


def _stamp_marker(rng: np.random.Generator, grey: np.ndarray, laterality: str, share: float, film_scale: float) -> None:
    """A lead letter near a corner, added in place."""
    rows, cols = grey.shape
    column = (rng.integers(14, 60) if rng.random() < 0.5 else cols / film_scale - rng.integers(50, 96)) * film_scale
    row = (rng.integers(60, 130) if rng.random() < 0.5 else rows / film_scale - rng.integers(14, 60)) * film_scale
    size, brightness, thickness = rng.uniform(1.0, 1.9), rng.uniform(150, 235), rng.integers(2, 5)
    if rng.random() < share:
        letter = np.zeros((rows, cols), np.uint8)
        cv2.putText(
            letter, laterality, (int(column), int(row)), cv2.FONT_HERSHEY_SIMPLEX, float(size * film_scale),
            int(brightness), max(1, round(thickness * film_scale)), cv2.LINE_AA,
        )  # fmt: skip
        grey += letter
