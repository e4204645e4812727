"""The hand phantom: a PA hand radiograph whose ossification centres appear, grow and fuse by age and sex."""

from __future__ import annotations

import cv2
import numpy as np

from engine.findings.answers import MAX_BONE_AGE_MONTHS, View, bone_age_answer
from engine.phantoms.bones import (
    BoneLayers,
    draw_carpals,
    draw_epiphysis,
    draw_sesamoid,
    draw_shaft,
    outline,
    shaft_profile,
)
from engine.phantoms.centres import centres, draw_maturities
from engine.phantoms.drawing import Pose, blur, enlarged, fill, smooth_noise, stroke
from engine.phantoms.exposure import SITES, Banding, expose
from engine.phantoms.phantom import Phantom

ROWS, COLS = 640, 512  # base film
VISIBLE_MM = 226.0  # of an adult hand and wrist, from forearm to fingertip, over the film's height
BONE_AGE_RANGE = {"M": (8, 221), "F": (8, 199)}  # months drawn; beyond these a hand no longer changes
ADULT_SIZE_MONTHS = {"M": 200.0, "F": 175.0}  # approximate, unverified
CHRONOLOGICAL_SD_MONTHS = 9.0  # of bone age around age; a round figure near Greulich-Pyle's SDs in mid-childhood

# Adult sizes in mm by ray 1-5; drawn by eye. MC metacarpal, PP/MP/DP proximal, middle, distal phalanx.
LENGTH = {
    "MC": (45, 68, 65, 58, 53), "PP": (32, 40, 44, 41, 33), "MP": (0, 23, 28, 27, 19), "DP": (22, 17, 18, 18, 16),
}  # fmt: skip
WIDTH = {
    "MC": (12, 12, 12, 11, 11), "PP": (10.5, 11.5, 12, 11.5, 10), "MP": (0, 9.5, 10, 9.5, 8.5),
    "DP": (8.5, 7.5, 8, 7.5, 6.5),
}  # fmt: skip
RAY_BASE = np.array([[-21, 21], [-12, 33], [0, 35], [10, 33], [19, 28.5]], float)
RAY_ANGLE_DEG = np.array([-36, -11, -1, 8, 18], float)
FOREARM = (  # name, x, width at the wrist, width of the shaft, top of the shaft, height of the epiphysis (mm)
    ("radius_distal", -8.0, 25.0, 14.0, -9.5, 8.0),
    ("ulna_distal", 14.5, 14.0, 9.5, -8.5, 6.5),
)


def hand(
    seed: int, *, bone_age_months: int | None = None, sex: str | None = None, site: str = "A", film_scale: float = 1.0
) -> Phantom:
    """One hand. The same seed gives the same hand at any `film_scale` (1.0 is 640 rows)."""
    rng = np.random.default_rng((1, seed))
    where = SITES[site]
    sex = sex or ("M" if rng.random() < 0.5 else "F")
    drawn_age = int(rng.integers(*BONE_AGE_RANGE[sex]))
    bone_age = drawn_age if bone_age_months is None else bone_age_months
    age_months = float(np.clip(bone_age + rng.normal(0, CHRONOLOGICAL_SD_MONTHS) * min(1, bone_age / 96), 1, 228))
    maturity = draw_maturities(rng, bone_age, sex)
    laterality = "L" if rng.random() < 0.75 else "R"
    own = centres(sex)

    size = 0.42 + 0.58 * min(bone_age / ADULT_SIZE_MONTHS[sex], 1) ** 0.8  # of an adult's hand
    px_per_mm = ROWS / VISIBLE_MM * size**0.32 * rng.uniform(0.9, 1.0)
    shape = (ROWS, COLS)
    pose = Pose(
        px_per_mm,
        np.deg2rad(rng.uniform(-where.rotation_deg, where.rotation_deg)),
        mirrored=laterality == "L",
        origin_mm=(0.0, 88.0),
        centre_px=(shape[1] * (0.5 + rng.uniform(-0.04, 0.04)), shape[0] * (0.5 + rng.uniform(-0.025, 0.025))),
    )
    cortex = rng.uniform(118, 150)
    layers = BoneLayers.empty(shape, cortex, cortex * rng.uniform(0.62, 0.78))
    soft = np.zeros((shape[0] // 2, shape[1] // 2), np.uint8)
    thickness = rng.uniform(46, 66) * rng.uniform(*where.soft_tissue)
    palm = [[-27, 14], [-24, 32], [-21, 98], [24, 86], [29, 32], [25, 12], [23, -80], [-24, -80]]
    fill(soft, pose.to_px(np.array(palm)) / 2, thickness)

    slimness = 0.80 + 0.20 * size
    length_factor = 1 + 0.03 * rng.standard_normal()
    spread = rng.uniform(0.8, 1.15)
    for ray in range(5):
        angle = np.deg2rad(RAY_ANGLE_DEG[ray] * spread + rng.uniform(-3, 3))
        position = RAY_BASE[ray].copy()
        for bone in ("MC", "PP", "MP", "DP") if ray else ("MC", "PP", "DP"):
            length = LENGTH[bone][ray] * length_factor
            width = WIDTH[bone][ray] * slimness * (1 + 0.02 * rng.standard_normal())
            along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])

            def to_px(p, at=position, along=along, across=across):  # (n, 2) along the bone to pixels
                return pose.to_px(at + np.outer(p[:, 1], along) + np.outer(p[:, 0], across))

            plate_at_head = bone == "MC" and ray > 0  # only metacarpals 2-5 grow at their head
            height = width * 0.48
            plate = height * 1.15 + width * 0.07
            low, high = (0.5, length - plate) if plate_at_head else (plate, length - 0.8)
            head = width * (0.9 if bone != "DP" else 0.45)
            y, half = shaft_profile(high - low, width * 0.95, head, width * (0.62 if bone != "DP" else 0.40))
            rounding = (0.06, 0.03) if plate_at_head else (0.03, 0.16)
            draw_shaft(layers, to_px, y + low, half, width * rounding[0], width * rounding[1])
            name = f"{bone}{ray + 1}"
            plate_y, side = (high, 1) if plate_at_head else (low, -1)
            draw_epiphysis(layers, to_px, own[name], maturity[name], width, height, plate_y, side)
            if name == "MC1":
                sesamoid = "adductor_sesamoid"
                draw_sesamoid(layers, to_px, own[sesamoid], maturity[sesamoid], (5.5, length - 4))
            flesh = width * (1.6 if bone == "MC" else 1.75)
            stroke(soft, pose.to_px(np.array([position, position + along * (length + 2)])) / 2, thickness,
                   flesh * px_per_mm / 2)  # fmt: skip
            position = position + along * (length + 1.2)
            angle += np.deg2rad(rng.uniform(-4, 4))
    draw_carpals(layers, pose, rng, own, maturity, sex)
    for name, x, width, shaft, top, height in FOREARM:
        width, shaft = width * slimness, shaft * slimness
        t = np.linspace(0, 1, 11)
        half = (shaft + (width - shaft) * np.clip((t - 0.6) / 0.4, 0, 1) ** 1.5) / 2
        y = top - 84 + 84 * t

        def to_px(p, x=x):
            return pose.to_px(p + [x, 0])

        fill(layers.shafts, to_px(outline(y, half, half, 0, 0.5)), layers.cortex)
        marrow = half * (0.55 + 0.33 * t)
        fill(layers.shafts, to_px(outline(y * 0.99 - 0.3, marrow, marrow)), layers.marrow)
        draw_epiphysis(layers, to_px, own[name], maturity[name], width, height, top, 1)

    attenuation = layers.sum() * (1 + 0.05 * smooth_noise(rng, shape, 3))
    attenuation += cv2.resize(blur(soft, 2.5), shape[::-1], interpolation=cv2.INTER_LINEAR)
    attenuation += np.float32(rng.uniform(2, 16))
    extras = np.random.default_rng((6, seed))  # its own, so that a site without extras keeps its films
    banding = Banding.draw(extras, where)
    stored, window = expose(rng, enlarged(attenuation, film_scale), where, banding, laterality, film_scale)
    label = min(round(bone_age * where.local_standard), MAX_BONE_AGE_MONTHS)
    truth = {"maturity_months": maturity, "banding": banding.amplitude}
    return Phantom(
        View.HAND, stored, bone_age_answer(label), truth, seed, site, laterality, sex, age_months, window,
        where.monochrome1, spacing_mm=size / px_per_mm / film_scale,
    )  # fmt: skip
