"""The wrist phantom: a PA wrist radiograph, normal, with a buckle (torus) fracture or a transverse one.

About a quarter of the fractures are subtle. Site, severity, side and bone vary; the ulna may break too or alone."""

from __future__ import annotations

import cv2
import numpy as np

from engine.findings.answers import Fracture, View, fracture_answer
from engine.phantoms.bones import BoneLayers, draw_carpals, draw_epiphysis, draw_shaft, outline, shaft_profile
from engine.phantoms.centres import centres, draw_maturities
from engine.phantoms.drawing import Pose, blur, enlarged, fill, smooth_noise, stroke
from engine.phantoms.exposure import SITES, Banding, expose
from engine.phantoms.hand import FOREARM, LENGTH, RAY_ANGLE_DEG, RAY_BASE, WIDTH
from engine.phantoms.phantom import Phantom

ROWS, COLS = 640, 512  # base film
VISIBLE_MM = 112.0  # of an adult wrist over the film's height
AGE_RANGE_MONTHS = (40.0, 185.0)
SUBTLE_SHARE = 0.25
ULNA_TOO_SHARE, ULNA_ALONE_SHARE = 0.35, 0.15


def wrist(
    seed: int, *, fracture: str | None = None, sex: str | None = None, site: str = "A", film_scale: float = 1.0
) -> Phantom:
    """One wrist. The same seed gives the same wrist at any `film_scale` (1.0 is 640 rows)."""
    rng = np.random.default_rng((2, seed))
    where = SITES[site]
    sex = sex or ("M" if rng.random() < 0.5 else "F")
    drawn = list(Fracture)[int(rng.integers(3))]
    finding = drawn if fracture is None else Fracture(fracture)
    age_months = rng.uniform(*AGE_RANGE_MONTHS)
    maturity = draw_maturities(rng, age_months, sex)
    own = centres(sex)
    laterality = "L" if rng.random() < 0.5 else "R"

    size = 0.6 + 0.4 * min(age_months / 190, 1)
    px_per_mm = ROWS / VISIBLE_MM * size**0.4 * rng.uniform(0.9, 1.1)
    shape = (ROWS, COLS)
    pose = Pose(
        px_per_mm,
        np.deg2rad(rng.uniform(-where.rotation_deg, where.rotation_deg)),
        mirrored=laterality == "L",
        origin_mm=(2.0, -14.0),
        centre_px=(shape[1] * (0.5 + rng.uniform(-0.05, 0.05)), shape[0] * (0.5 + rng.uniform(-0.04, 0.04))),
    )
    cortex = rng.uniform(120, 155)
    layers = BoneLayers.empty(shape, cortex, cortex * rng.uniform(0.6, 0.76))
    lucency = np.zeros(shape, np.uint8)  # fracture lines, subtracted
    soft = np.zeros((shape[0] // 2, shape[1] // 2), np.uint8)
    thickness = rng.uniform(45, 68) * rng.uniform(*where.soft_tissue)
    flesh = [[-28, 70], [-26, 20], [-25, -110], [28, -110], [28, 20], [32, 70]]
    fill(soft, pose.to_px(np.array(flesh)) / 2, thickness)

    subtle = bool(rng.random() < SUBTLE_SHARE)
    severity = rng.uniform(0.26, 0.45) if subtle else rng.uniform(0.45, 1.0)
    above_plate_mm = rng.uniform(14, 30)
    ulna_too, ulna_alone = rng.random() < ULNA_TOO_SHARE, rng.random() < ULNA_ALONE_SHARE
    broken = {"radius_distal": not ulna_alone, "ulna_distal": ulna_too or ulna_alone}
    slimness = rng.uniform(0.85, 1.05)
    extras = np.random.default_rng((5, seed))  # its own, so that a site without extras keeps its films
    arrested = bool(extras.random() < where.growth_arrest_share)
    banding = Banding.draw(extras, where)
    for name, x, width, shaft, top, height in FOREARM:
        bone = _ForearmBone(rng, width * slimness, shaft * slimness, top)
        level = top - above_plate_mm * (1 if name == "radius_distal" else 0.9)
        strength = severity * (1 if name == "radius_distal" else 0.8)

        def to_px(p, x=x):
            return pose.to_px(p + [x, 0])

        if broken[name] and finding is Fracture.BUCKLE:
            bone.buckle(rng, level, strength)
        if broken[name] and finding is Fracture.DISTAL_RADIUS:
            bone.break_across(rng, level, strength, displaced=not subtle)
        bone.draw(layers, to_px)
        if arrested:
            bone.draw_growth_arrest_lines(extras, layers, to_px, top)
        if broken[name] and finding is Fracture.BUCKLE:
            bone.draw_buckle_band(layers, to_px, level, strength)
        if broken[name] and finding is Fracture.DISTAL_RADIUS:
            bone.draw_fracture_line(rng, lucency, to_px, level, strength, px_per_mm, complete=not subtle)
        draw_epiphysis(
            layers, lambda p, x=x, dx=bone.shift[-1]: pose.to_px(p + [x + dx, 0]), own[name], maturity[name],
            width * slimness, height, top, 1,
        )  # fmt: skip
    draw_carpals(layers, pose, rng, own, maturity, sex)
    for ray in range(5):
        angle = np.deg2rad(RAY_ANGLE_DEG[ray])
        along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])

        def to_px(p, ray=ray, along=along, across=across):
            return pose.to_px(RAY_BASE[ray] + np.outer(p[:, 1] + 0.8, along) + np.outer(p[:, 0], across))

        y, half = shaft_profile(LENGTH["MC"][ray] * 0.9, WIDTH["MC"][ray], 11, 7.5)
        draw_shaft(layers, to_px, y, half * 0.95, 0.5, 1.0)

    line = blur(lucency, 1.3).astype(np.float32) / 255
    attenuation = layers.sum() * (1 - 0.75 * line) * (1 + 0.05 * smooth_noise(rng, shape, 3))
    attenuation += cv2.resize(blur(soft, 3.5), shape[::-1], interpolation=cv2.INTER_LINEAR)
    attenuation += np.float32(rng.uniform(2, 16))
    stored, window = expose(rng, enlarged(attenuation, film_scale), where, banding, laterality, film_scale)
    truth = {
        "subtle": subtle and finding is not Fracture.NORMAL,
        "banding": banding.amplitude,
        "growth_arrest": arrested,
    }
    return Phantom(
        View.WRIST, stored, fracture_answer(finding.value), truth, seed, site, laterality, sex, age_months, window,
        where.monochrome1, spacing_mm=size / px_per_mm / film_scale,
    )  # fmt: skip


class _ForearmBone:
    """The lower end of a forearm bone as two edges along y, which fractures deform."""

    POINTS = 61

    def __init__(self, rng: np.random.Generator, width: float, shaft: float, top: float) -> None:
        t = np.linspace(0, 1, self.POINTS)
        self.width = width
        self.y = top - 98 + 98 * t
        half = (shaft + (width - shaft) * np.clip((t - 0.62) / 0.38, 0, 1) ** 1.5) / 2
        knots = np.linspace(0, 1, 8)
        wave = 0.010 * width * np.cumsum(rng.standard_normal((2, 8)), axis=1)  # no bone is ruled with a ruler
        self.left, self.right = (half + np.interp(t, knots, w - w.mean()) for w in wave)
        self.shift = np.zeros(self.POINTS)  # sideways, of a displaced fragment
        self.cut = self.POINTS  # index where a transverse fracture divides the bone
        self.marrow_share = 0.52 + 0.36 * t

    def buckle(self, rng: np.random.Generator, level: float, strength: float) -> None:
        """A bulge of one or both cortices, with a slight dip below it."""
        bulge = 0.6 + 2.6 * strength
        spread = rng.uniform(1.3, 2.4)
        side = int(rng.integers(3))  # 0 left, 1 right, 2 both
        second = rng.uniform(0.5, 1.0) if side == 2 else 1.0
        bump = np.exp(-(((self.y - level) / spread) ** 2) / 2)
        dip = 0.35 * np.exp(-(((self.y - level - 2.6 * spread) / spread) ** 2) / 2)
        if side != 1:
            self.left = self.left + bulge * (bump - 0.6 * dip)
        if side != 0:
            self.right = self.right + bulge * second * bump

    def break_across(self, rng: np.random.Generator, level: float, strength: float, displaced: bool) -> None:
        self.cut = int(np.searchsorted(self.y, level))
        sideways = rng.choice([-1, 1]) * strength * self.width * rng.uniform(0, 0.38)
        tilt = np.deg2rad(rng.uniform(-14, 14) * strength)
        if displaced:
            self.shift[self.cut :] = sideways + np.tan(tilt) * (self.y[self.cut :] - self.y[self.cut])

    def draw(self, layers: BoneLayers, to_px) -> None:
        for part in (slice(0, self.cut), slice(self.cut, self.POINTS)):
            y, shift = self.y[part], self.shift[part]
            if len(y) < 2:
                continue
            left, right = self.left[part], self.right[part]
            fill(layers.shafts, to_px(outline(y, left - shift, right + shift)), layers.cortex)
            share = self.marrow_share[part]
            fill(layers.shafts, to_px(outline(y, left * share - shift, right * share + shift)), layers.marrow)

    def draw_growth_arrest_lines(self, rng: np.random.Generator, layers: BoneLayers, to_px, top: float) -> None:
        """One or two dense lines across the metaphysis, the memory of an illness; no fracture. They look like a
        buckle's band, but the cortex does not bulge."""
        for level in top - rng.uniform(8, 30, int(rng.integers(1, 3))):
            near = np.abs(self.y - level) < 1.1
            if near.sum() > 1:
                shift = self.shift[near]
                line = outline(self.y[near], self.left[near] * 0.93 - shift, self.right[near] * 0.93 + shift)
                fill(layers.overlays, to_px(line), rng.uniform(10, 24))

    def draw_buckle_band(self, layers: BoneLayers, to_px, level: float, strength: float) -> None:
        """The compressed trabeculae: a faint dense band."""
        near = np.abs(self.y - level) < 1.7
        if near.sum() > 1:
            band = outline(self.y[near], self.left[near] * 0.9, self.right[near] * 0.9)
            fill(layers.overlays, to_px(band), 20 * strength + 5)

    def draw_fracture_line(
        self, rng: np.random.Generator, lucency: np.ndarray, to_px, level: float, strength: float, px_per_mm: float,
        complete: bool,
    ) -> None:  # fmt: skip
        reach = 1.0 if complete else rng.uniform(0.6, 1.0)
        across = np.linspace(-1.02, 1.02, 9)
        across = across[across <= -1 + 2 * reach + 0.03]
        slope = rng.uniform(-0.22, 0.22)
        y = level + rng.normal(0, 0.5, len(across)) + slope * across * self.width / 2
        at = max(self.cut - 1, 0)
        x = np.where(across < 0, across * self.left[at], across * self.right[at])
        x = x + self.shift[min(self.cut, self.POINTS - 1)] * 0.5
        stroke(lucency, to_px(np.stack([x, y], 1)), 80 + 120 * strength, px_per_mm * (0.4 + 0.9 * strength))
