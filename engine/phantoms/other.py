"""Images that are none of the three views, for triage and abstention: noise, shapes, text, spoilt phantoms."""

from __future__ import annotations

import cv2
import numpy as np

from engine.phantoms.fundus import fundus
from engine.phantoms.hand import hand
from engine.phantoms.wrist import wrist

SIDE = 512


def other(seed: int) -> np.ndarray:
    """(rows, cols, 3) uint8."""
    rng = np.random.default_rng((4, seed))
    kind = rng.integers(6)
    if kind == 0:
        return _noise(rng)
    if kind == 1:
        return _shapes(rng)
    if kind == 2:
        return _text(rng)
    image = _phantom(rng, seed)
    if kind == 3:  # negative
        return 255 - image
    if kind == 4:  # two films on top of each other
        second = cv2.resize(_phantom(rng, seed + 1), image.shape[1::-1])
        return cv2.addWeighted(image, 0.5, second, 0.5, 0)
    tile = int(rng.integers(40, 160))  # tiles shuffled
    rows, cols = image.shape[0] // tile, image.shape[1] // tile
    order = rng.permutation(rows * cols)
    tiles = [image[r * tile : (r + 1) * tile, c * tile : (c + 1) * tile] for r in range(rows) for c in range(cols)]
    return np.vstack([np.hstack([tiles[order[r * cols + c]] for c in range(cols)]) for r in range(rows)])


def _phantom(rng: np.random.Generator, seed: int) -> np.ndarray:
    draw = (hand, wrist, fundus)[int(rng.integers(3))]
    pixels = draw(seed).pixels
    if pixels.ndim == 3:
        return pixels
    high = np.percentile(pixels, 99.7)
    return cv2.cvtColor(np.clip(pixels * (255 / high), 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def _noise(rng: np.random.Generator) -> np.ndarray:
    """From white noise to clouds, grey or coloured."""
    grid = int(2 ** rng.uniform(1, 9))
    channels = 3 if rng.random() < 0.4 else 1
    field = rng.random((grid, grid, channels), dtype=np.float32)
    field = cv2.resize(field, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).reshape(SIDE, SIDE, channels)
    low, high = sorted(rng.uniform(0, 255, 2))
    return np.repeat(np.clip(low + (high - low) * field, 0, 255).astype(np.uint8), 3 // channels, axis=2)


def _shapes(rng: np.random.Generator) -> np.ndarray:
    """Overlapping translucent ellipses, lines and boxes: a chest or a skull to someone who squints."""
    image = np.full((SIDE, SIDE), float(rng.uniform(0, 120)), np.float32)
    for _ in range(int(rng.integers(2, 25))):
        layer = np.zeros((SIDE, SIDE), np.float32)
        centre, axes = rng.integers(0, SIDE, 2), rng.integers(8, 200, 2)
        value, angle = float(rng.uniform(-90, 140)), float(rng.uniform(0, 180))
        if rng.random() < 0.6:
            cv2.ellipse(layer, centre.tolist(), axes.tolist(), angle, 0, 360, value, int(rng.choice([-1, 3, 9])))
        else:
            cv2.line(layer, centre.tolist(), rng.integers(0, SIDE, 2).tolist(), value, int(rng.integers(1, 30)))
        image += cv2.GaussianBlur(layer, (0, 0), float(rng.uniform(0.5, 12)))
    image += rng.standard_normal((SIDE, SIDE), dtype=np.float32) * np.float32(rng.uniform(0, 12))
    colour = rng.uniform(0.4, 1.0, 3) if rng.random() < 0.3 else np.ones(3)
    return np.clip(image[..., None] * colour.astype(np.float32), 0, 255).astype(np.uint8)


def _text(rng: np.random.Generator) -> np.ndarray:
    """A scanned page or a screen capture."""
    paper, ink = rng.permutation([rng.uniform(0, 90), rng.uniform(150, 255)])
    image = np.full((SIDE, SIDE, 3), paper, np.uint8)
    size = float(rng.uniform(0.3, 1.4))
    for row in range(20, SIDE, max(12, int(30 * size))):
        words = "".join(chr(c) for c in rng.integers(32, 123, 60))
        cv2.putText(image, words, (int(rng.integers(0, 40)), row), cv2.FONT_HERSHEY_SIMPLEX, size, (float(ink),) * 3)
    return image
