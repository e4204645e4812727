"""The fundus phantom: a wide-field image of a premature infant's retina.

The vascular border lies at a multiple of the disc-fovea distance, which gives the zone (ICROP3: zone I ends at
twice that distance); what is drawn on the border gives the stage, the vessels' width and tortuosity the plus
disease. A border within a twentieth of a zone's limit is not drawn: two graders would not agree on it."""

from __future__ import annotations

import cv2
import numpy as np

from engine.findings.answers import Plus, Stage, View, Zone, rop_answer
from engine.phantoms.drawing import CIRCLE, blur, enlarged, fill, stroke
from engine.phantoms.phantom import Phantom

ROWS, COLS = 576, 640  # base image
FULLY_VASCULARISED_SHARE = 0.12
ZONE_RATIO = {  # radius of the vascular border over the disc-fovea distance
    Zone.I: (1.2, 1.9), Zone.II: (2.1, 3.3), Zone.III: (3.55, 4.2), Zone.NONE: (7.0, 8.0),
}  # fmt: skip
TORTUOSITY = {Plus.NONE: (0.0, 0.38), Plus.PREPLUS: (0.5, 0.9), Plus.PLUS: (1.05, 1.7)}
VESSEL_WIDTH = {Plus.NONE: (0.8, 1.1), Plus.PREPLUS: (1.12, 1.4), Plus.PLUS: (1.45, 1.95)}
LINE_WIDTH_PX = {Stage.S1: (1.8, 3.2), Stage.S2: (5.5, 10.0), Stage.S3: (6.0, 11.0)}
LINE_STRENGTH = {Stage.S1: (120, 190), Stage.S2: (150, 215), Stage.S3: (140, 205)}
CHANNELS_R_G_B = range(3)

# Site B's camera: a little dimmer, greener and softer, with more flare.
CAMERA = {
    "A": {"gain": (0.85, 1.15), "tint": (0.9, 1.1), "blur_px": (0.4, 1.4), "noise_sd": (2, 9), "flare_share": 0.3},
    "B": {"gain": (0.7, 0.95), "tint": (1.0, 1.2), "blur_px": (0.9, 1.7), "noise_sd": (4, 11), "flare_share": 0.5},
}
CAMERA["V"] = CAMERA["A"]


def fundus(
    seed: int, *, zone: str | None = None, stage: str | None = None, plus_disease: str | None = None, site: str = "A",
    film_scale: float = 1.0,
) -> Phantom:  # fmt: skip
    """One retina. The same seed gives the same retina at any `film_scale` (1.0 is 576 rows)."""
    rng = np.random.default_rng((3, seed))
    camera = CAMERA[site]
    drawn_zone = Zone.NONE if rng.random() < FULLY_VASCULARISED_SHARE else list(Zone)[int(rng.integers(3))]
    drawn_stage, drawn_plus = list(Stage)[int(rng.integers(4))], list(Plus)[int(rng.integers(3))]
    zone_ = Zone(zone) if zone else drawn_zone
    stage_ = Stage(stage) if stage else drawn_stage
    plus = Plus(plus_disease) if plus_disease else drawn_plus
    if zone_ is Zone.NONE:
        stage_, plus = Stage.S0, Plus.NONE
    laterality = "R" if rng.random() < 0.5 else "L"
    nasal = 1.0 if laterality == "R" else -1.0  # the disc lies to the right of the fovea in a right eye
    sex = "M" if rng.random() < 0.5 else "F"

    shape = (ROWS, COLS)
    unit = shape[0]  # lengths below are shares of the image height
    field_radius = unit * 0.5 * rng.uniform(0.94, 1.0)
    centre = np.array([shape[1] / 2, shape[0] / 2]) + rng.uniform(-0.02, 0.02, 2) * unit
    disc_fovea = field_radius * rng.uniform(0.27, 0.33)
    offset = rng.uniform(0.22, 0.38) + (rng.uniform(0.05, 0.14) if zone_ in (Zone.III, Zone.NONE) else 0)
    disc = centre + np.array([nasal * field_radius * offset, field_radius * rng.uniform(-0.12, 0.12)])
    tilt = rng.uniform(-0.15, 0.15)
    fovea = disc + disc_fovea * np.array([-nasal * np.cos(tilt), np.sin(tilt)])
    ratio = rng.uniform(*ZONE_RATIO[zone_])

    waves = [(k + 2, amplitude, phase) for k, (amplitude, phase) in
             enumerate(zip(rng.uniform(0, 0.03, 3), rng.uniform(0, 2 * np.pi, 3), strict=True))]  # fmt: skip

    def border_radius(angle: np.ndarray) -> np.ndarray:
        return ratio * disc_fovea * (1 + sum(a * np.sin(k * angle + p) for k, a, p in waves))

    arteries, veins = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    tree = _VesselTree(rng, disc, border_radius, unit, rng.uniform(*TORTUOSITY[plus]))
    width = rng.uniform(*VESSEL_WIDTH[plus]) * unit / 512
    temporal = np.pi if nasal > 0 else 0.0
    for direction in (0.95, -0.95, 2.25, -2.25):
        for artery in (True, False):
            heading = temporal + direction + rng.normal(0, 0.12) + (0.12 if artery else -0.12)
            length = unit * 0.62 * min(1, ratio / 2.6 + 0.2)
            tree.grow(
                arteries if artery else veins, disc.copy(), heading, (3.4 if artery else 4.6) * width, length, artery
            )

    line, tufts = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    extent = rng.uniform(0.55, 1.0) * 2 * np.pi  # of the border that shows the line or ridge, around temporal
    strength, line_width = rng.random(), rng.random()
    if stage_ is not Stage.S0:
        angle = temporal + np.linspace(-extent / 2, extent / 2, 160)
        border = disc + np.stack([np.cos(angle), np.sin(angle)], 1) * border_radius(angle)[:, None]
        low, high = LINE_STRENGTH[stage_]
        thin, thick = LINE_WIDTH_PX[stage_]
        stroke(line, border, low + (high - low) * strength, (thin + (thick - thin) * line_width) * unit / 512)
        if stage_ is Stage.S3:  # extraretinal proliferation on the ridge
            for _ in range(int(rng.integers(12, 28))):
                at = border[int(rng.integers(len(border)))] + rng.normal(0, unit / 128, 2)
                bud = CIRCLE * rng.uniform(3.5, 8.5) * unit / 512 * rng.uniform(0.7, 1.3, (len(CIRCLE), 1))
                fill(tufts, at + bud, rng.uniform(130, 220))

    soft = unit / 512
    masks = {
        "vein": blur(veins, 0.8 * soft), "artery": blur(arteries, 0.8 * soft), "tuft": blur(tufts, 1.5 * soft),
        "line": blur(line, (0.9 if stage_ is Stage.S1 else 2.0) * soft),
    }  # fmt: skip
    pixels = _photograph(rng, masks, centre, disc, fovea, field_radius, border_radius, stage_, camera, film_scale)
    return Phantom(
        View.FUNDUS, pixels, rop_answer(zone_.value, stage_.value, plus.value), {"zone_ratio": float(ratio)}, seed,
        site, laterality, sex, age_months=float(rng.uniform(1.0, 3.0)),
    )  # fmt: skip


class _VesselTree:
    """Vessels that wander out from the disc, branch, and stop at the vascular border."""

    BRANCHES = (3, 1, 0)  # by depth

    def __init__(
        self, rng: np.random.Generator, disc: np.ndarray, border_radius, unit: float, tortuosity: float
    ) -> None:
        self.rng, self.disc, self.border_radius, self.unit, self.tortuosity = rng, disc, border_radius, unit, tortuosity

    def grow(
        self, layer: np.ndarray, start: np.ndarray, heading: float, width: float, length: float, artery: bool,
        depth: int = 0,
    ) -> None:  # fmt: skip
        rng = self.rng
        steps = max(10, int(60 * length / self.unit))  # independent of the film's scale
        along = np.arange(steps) * length / steps
        bend = rng.normal(0, 1.1) / self.unit
        wiggle = self.tortuosity * (0.85 if artery else 0.47)
        wavelength = self.unit * 0.085 / rng.uniform(0.9, 1.4)
        phase = rng.uniform(0, 2 * np.pi)
        eased = np.clip(along / (self.unit * 0.04), 0, 1)
        direction = heading + bend * along + wiggle * np.sin(2 * np.pi * along / wavelength + phase) * eased
        direction = direction + np.cumsum(rng.normal(0, 0.03, steps))
        points = start + np.cumsum(np.stack([np.cos(direction), np.sin(direction)], 1), 0) * (length / steps)
        points = np.concatenate([[start], points])
        from_disc = points - self.disc
        outside = np.hypot(*from_disc.T) >= 0.99 * self.border_radius(np.arctan2(from_disc[:, 1], from_disc[:, 0]))
        points = points[: max(int(np.argmax(outside)) if outside.any() else len(points), 2)]
        thirds = np.linspace(0, len(points) - 1, 4).astype(int)
        for taper, (first, last) in enumerate(zip(thirds[:-1], thirds[1:], strict=True)):
            stroke(layer, points[first : last + 1], rng.uniform(150, 215), width * (1 - 0.22 * taper))
        for _ in range(self.BRANCHES[depth]):
            at = int(rng.uniform(0.2, 0.85) * len(points))
            turn = rng.choice([-1, 1]) * rng.uniform(0.4, 0.85)
            if at < len(points) - 3:
                away = heading + bend * along[min(at, steps - 1)] + turn
                self.grow(layer, points[at].copy(), away, width * 0.66, length * 0.55, artery, depth + 1)


def _photograph(rng, masks, centre, disc, fovea, field_radius, border_radius, stage, camera, film_scale) -> np.ndarray:
    """Colour, light and camera: (rows, cols, 3) uint8."""
    rows, cols = ROWS, COLS
    masks = {name: mask.astype(np.float32) / 255 for name, mask in masks.items()}
    x, y = np.arange(cols, dtype=np.float32)[None, :], np.arange(rows, dtype=np.float32)[:, None]

    def distance(point) -> np.ndarray:
        return np.sqrt((x - np.float32(point[0])) ** 2 + (y - np.float32(point[1])) ** 2)

    def step(inside: np.ndarray, softness: float) -> np.ndarray:
        return 1 / (1 + np.exp(np.clip(-inside / np.float32(softness), -20, 20)))

    table = border_radius(np.deg2rad(np.arange(361))).astype(np.float32)
    angle = cv2.phase(x - np.float32(disc[0]) + 0 * y, y - np.float32(disc[1]) + 0 * x, angleInDegrees=True)
    from_disc = distance(disc)
    avascular = step(from_disc - table[angle.astype(np.int32)], rows * rng.uniform(0.006, 0.014))
    disc_mask = 0.75 * step(rows * rng.uniform(0.034, 0.044) - from_disc, rows * 0.005)
    macula = np.exp(-(distance(fovea) ** 2) / np.float32(2 * (rows * 0.035) ** 2))
    choroid = 1 + np.float32(0.05) * cv2.resize(
        rng.standard_normal((12, 12), dtype=np.float32), (cols, rows), interpolation=cv2.INTER_CUBIC
    )
    reach = distance(centre) / np.float32(field_radius)
    field = step(1 - reach, 1 / 90)
    light = (1 - np.float32(rng.uniform(0.1, 0.5)) * np.minimum(reach, 1.2) ** 2) * field
    light = light * np.float32(rng.uniform(*camera["gain"]))
    flare_at, flare_size, flare = rng.uniform(0, rows, 2), rng.uniform(18, 56), rng.uniform(10, 45)
    glare = np.float32(0)
    if rng.random() < camera["flare_share"]:
        glare = np.float32(flare) * field * np.exp(-(distance(flare_at) ** 2) / np.float32(2 * flare_size**2))

    retina = np.array([rng.uniform(165, 215), rng.uniform(70, 115), rng.uniform(35, 70)])
    pale = retina * rng.uniform(0.78, 0.95) + np.array([8, 22, 26]) * rng.uniform(0.6, 1.3)
    line_colour = (235, 185, 165) if stage is Stage.S2 else (235, 200, 180)
    tint = (1.0, rng.uniform(*camera["tint"]), rng.uniform(0.8, 1.2))
    pedestal = rng.uniform(0, 8)
    shade = choroid * (1 - np.float32(0.28) * macula)
    vessels = 1 - np.float32(0.35) * np.maximum(masks["vein"], masks["artery"])
    image = np.empty((rows, cols, 3), np.float32)
    for k in CHANNELS_R_G_B:
        plane = (np.float32(retina[k]) + np.float32(pale[k] - retina[k]) * avascular) * shade
        plane *= 1 - np.float32((0.42, 0.60, 0.55)[k]) * masks["vein"]
        plane *= 1 - np.float32((0.22, 0.48, 0.45)[k]) * masks["artery"]
        plane = plane * (1 - disc_mask) + np.float32((242, 205, 150)[k]) * disc_mask * vessels
        plane += (np.float32(line_colour[k]) - plane) * (np.float32(0.75) * masks["line"])
        plane += (np.float32((150, 38, 34)[k]) - plane) * (np.float32(0.7) * masks["tuft"])
        image[..., k] = plane * light * np.float32(tint[k]) + glare + np.float32(pedestal)
    image = blur(image, rng.uniform(*camera["blur_px"]))
    image += np.float32(rng.uniform(*camera["noise_sd"])) * rng.standard_normal((rows, cols, 1), dtype=np.float32)
    return np.clip(np.round(enlarged(image, film_scale)), 0, 255).astype(np.uint8)
