"""Growing bones: shafts, epiphyses and carpals as outlines in millimetres of an adult hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.phantoms.centres import CARPALS_ADULT_MONTHS, SCAR_FADES_MONTHS, Centre
from engine.phantoms.drawing import CIRCLE, Pose, fill, rotated, superellipse

ToPixels = Callable[[np.ndarray], np.ndarray]


@dataclass
class BoneLayers:
    """Attenuation in grey levels, added up at the end, so that overlapping bones look brighter."""

    shafts: np.ndarray  # uint8
    centres: np.ndarray  # uint8, epiphyses and carpals
    overlays: np.ndarray  # uint8, what lies on top: sesamoids, pisiform, scars
    cortex: float  # grey level of compact bone
    marrow: float  # grey level of spongy bone

    @classmethod
    def empty(cls, shape: tuple[int, int], cortex: float, marrow: float) -> BoneLayers:
        return cls(*(np.zeros(shape, np.uint8) for _ in range(3)), cortex, marrow)

    def sum(self) -> np.ndarray:
        """(rows, cols) float32."""
        return self.shafts.astype(np.float32) + self.centres + self.overlays


# centre x, y, half width, half height (mm, adult, from the middle of the wrist), tilt in degrees; drawn by eye
CARPALS = {
    "capitate": (-1.0, 22.0, 6.5, 10.5, 0),
    "hamate": (9.5, 19.5, 6.5, 9.0, 15),
    "triquetrum": (14.0, 9.5, 5.5, 5.5, 30),
    "lunate": (4.0, 7.0, 6.5, 5.5, 0),
    "scaphoid": (-9.0, 9.5, 5.5, 9.0, -35),
    "trapezium": (-18.0, 18.0, 5.5, 6.0, 20),
    "trapezoid": (-10.5, 23.0, 4.5, 5.5, 0),
    "pisiform": (17.0, 11.5, 3.6, 4.0, 0),
}


def shaft_profile(length_mm: float, base_mm: float, head_mm: float, waist_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Heights along the axis and half widths of a waisted shaft."""
    t = np.linspace(0, 1, 11)
    widen_base = np.clip(1 - t / 0.38, 0, 1) ** 1.6
    widen_head = np.clip(1 - (1 - t) / 0.35, 0, 1) ** 1.6
    width = waist_mm + (base_mm - waist_mm) * widen_base + (head_mm - waist_mm) * widen_head
    return t * length_mm, width / 2


def outline(y: np.ndarray, left: np.ndarray, right: np.ndarray, bottom_mm: float = 0, top_mm: float = 0) -> np.ndarray:
    """Closed outline from half widths; `bottom_mm` and `top_mm` round the two ends outwards."""
    points = [np.stack([-left, y], 1)]
    if top_mm:
        points.append(np.array([[-left[-1] * 0.55, y[-1] + top_mm], [right[-1] * 0.55, y[-1] + top_mm]]))
    points.append(np.stack([right, y], 1)[::-1])
    if bottom_mm:
        points.append(np.array([[right[0] * 0.55, y[0] - bottom_mm], [-left[0] * 0.55, y[0] - bottom_mm]]))
    return np.concatenate(points)


def draw_shaft(layers: BoneLayers, to_px: ToPixels, y: np.ndarray, half: np.ndarray, bottom: float, top: float) -> None:
    """A tubular bone: bright cortex, darker marrow that widens to the ends."""
    fill(layers.shafts, to_px(outline(y, half, half, bottom, top)), layers.cortex)
    from_middle = np.abs(y - y.mean()) / max(np.ptp(y) / 2, 1e-6)
    marrow = half * (0.52 + 0.38 * from_middle**2)
    fill(layers.shafts, to_px(outline(y * 0.95 + y.mean() * 0.05, marrow, marrow)), layers.marrow)


def draw_epiphysis(
    layers: BoneLayers, to_px: ToPixels, centre: Centre, maturity: float, width: float, height: float, plate_y: float,
    side: int,
) -> None:  # fmt: skip
    """The centre beyond the growth plate at `plate_y` (towards `side`, +1 or -1 along y): a dot that grows to a
    cap, the plate that narrows, bridges from the middle, and leaves a scar that fades."""
    if maturity < centre.appears_months:
        return
    assert centre.fusion_starts_months is not None and centre.fusion_complete_months is not None
    growing = np.clip((maturity - centre.appears_months) / (centre.fusion_starts_months - centre.appears_months), 0, 1)
    fusing = (maturity - centre.fusion_starts_months) / (centre.fusion_complete_months - centre.fusion_starts_months)
    fading = np.clip((maturity - centre.fusion_complete_months) / SCAR_FADES_MONTHS, 0, 1)
    half_width = width * (0.16 + 0.90 * growing**0.75) / 2
    half_height = height * (0.28 + 0.72 * growing**0.8) / 2
    gap = width * (0.17 - 0.10 * growing)
    middle = plate_y + side * (gap + half_height)
    body = superellipse(half_width, half_height, 0.9 * growing**0.7) + [0, middle]
    fill(layers.centres, to_px(body), layers.marrow * 1.15)
    inner = (body - [0, middle]) * 0.74 + [0, middle]
    fill(layers.centres, to_px(inner), layers.marrow)
    if fusing > 0:
        bridge = half_width * min(fusing, 1) ** 0.7
        near, far = plate_y - side * 0.3, plate_y + side * (gap + 0.6)
        box = np.array([[-bridge, near], [bridge, near], [bridge, far], [-bridge, far]])
        fill(layers.centres, to_px(box), layers.marrow * (0.55 + 0.45 * min(fusing, 1)))
    if fusing >= 1 and fading < 1:
        near, far = plate_y - side * 0.1, plate_y + side * 0.9
        scar = np.array([[-half_width, near], [half_width, near], [half_width, far], [-half_width, far]]) * [0.9, 1]
        fill(layers.overlays, to_px(scar), 42 * (1 - fading))


def draw_carpals(
    layers: BoneLayers,
    pose: Pose,
    rng: np.random.Generator,
    own: dict[str, Centre],
    maturity: dict[str, float],
    sex: str,
) -> None:
    for name, (x, y, half_width, half_height, tilt_deg) in CARPALS.items():
        wobble = rng.normal(0, 0.35, 2)
        age = maturity[name] - own[name].appears_months
        if age <= 0:
            continue
        grown = np.clip(age / (CARPALS_ADULT_MONTHS[sex] - own[name].appears_months), 0, 1)
        size = 0.20 + 0.82 * grown**0.75
        shape = superellipse(half_width * size, half_height * size, 0.5 * grown)
        shape = rotated(shape, np.deg2rad(tilt_deg))
        middle = np.array([x, y]) + wobble
        if name == "pisiform":
            fill(layers.overlays, pose.to_px(shape + middle), 52)
            continue
        fill(layers.centres, pose.to_px(shape + middle), layers.cortex * 0.9)
        fill(layers.centres, pose.to_px(shape * 0.82 + middle), layers.marrow * 1.08)


def draw_sesamoid(
    layers: BoneLayers, to_px: ToPixels, centre: Centre, maturity: float, at_mm: tuple[float, float]
) -> None:
    age = maturity - centre.appears_months
    if age > 0:
        fill(layers.overlays, to_px(CIRCLE * min(0.9 + age * 0.045, 2.6) + at_mm), 70)
