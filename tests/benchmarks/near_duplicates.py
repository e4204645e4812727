"""How far copies of a picture lie from it, and how near different phantoms come: what training.near_duplicates' two
thresholds rest on.

    python -m tests.benchmarks.near_duplicates [--count 300]        phantoms of each task and site; about 3 minutes"""

from __future__ import annotations

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Iterator

import cv2
import numpy as np

from engine.findings.answers import View
from engine.imaging.display import display_pixels
from engine.imaging.film import Film
from engine.imaging.preprocess import model_image
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW
from training.near_duplicates import MAX_DISTANCE, MIN_DETAIL, detail, distance, near_by_hash, perceptual_hash

COPIED = 60  # phantoms of each task and site that are copied


def square(display: np.ndarray) -> np.ndarray:
    image = model_image(display)
    return np.asarray(image if display.ndim == 3 else image.convert("L"))


def copies(film: Film) -> Iterator[tuple[str, np.ndarray]]:
    """What people make of a film: (how, (side, side[, 3]) uint8)."""
    shown = square(display_pixels(film))
    for quality in (95, 50, 20):
        _, jpeg = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, quality])
        yield f"JPEG {quality}", cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED)
    for scale in (0.25, 0.5, 0.75, 1.5):
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        yield f"size {scale}", cv2.resize(shown, None, fx=scale, fy=scale, interpolation=kind)
    yield "negative", 255 - shown
    yield "brighter", np.clip(shown.astype(int) + 25, 0, 255).astype(np.uint8)
    for gamma in (0.6, 1.6):
        yield f"gamma {gamma}", (255 * (shown / 255) ** gamma).astype(np.uint8)
    if film.vois:
        voi = film.vois[0]
        for center, width in ((1, 1.5), (1, 0.7), (1.15, 1), (0.85, 1)):
            window = dataclasses.replace(voi, center=voi.center * center, width=voi.width * width)
            yield f"centre x {center}, width x {width}", square(display_pixels(film, window))


def main(count: int) -> None:
    print(f"thresholds: at most {MAX_DISTANCE} bits and a correlation of at least {MIN_DETAIL}\n")
    furthest: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for view in (View.HAND, View.WRIST, View.FUNDUS):
        hashes, details = [], []
        for site, first in (("A", seeds.VALIDATION + 400_000_000), ("B", seeds.VALIDATION + 400_500_000)):
            for index in range(count):
                film = DRAW[view](first + index, site=site, film_scale=1.0).film()
                shown = square(display_pixels(film))
                hashes.append(perceptual_hash(shown))
                details.append(detail(shown))
                for how, copy in copies(film) if index < COPIED else ():
                    bits, fine = distance(hashes[-1], perceptual_hash(copy)), abs(float(details[-1] @ detail(copy)))
                    furthest[how].append((bits, fine))
        bits = [distance(hashes[i], hashes[j]) for i in range(len(hashes)) for j in range(i)]
        fine = [abs(float(details[i] @ details[j])) for i, j in near_by_hash(hashes)]
        print(
            f"different phantoms, {view.value}: {len(bits)} pairs, nearest {min(bits)} bits; "
            f"{len(fine)} within {MAX_DISTANCE}, correlation at most {max(fine, default=0):.3f}"
        )
    for how, found in furthest.items():
        print(
            f"{how:28s} at most {max(b for b, _ in found):3d} bits, correlation at least {min(f for _, f in found):.3f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    main(parser.parse_args().count)
