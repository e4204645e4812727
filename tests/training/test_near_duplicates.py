"""Copies are found, different films are not. The thresholds' own figures: tests/benchmarks/near_duplicates.py."""

import csv

import numpy as np
import pytest

from engine.findings.answers import View
from engine.imaging.display import display_pixels
from engine.imaging.load import load_film
from engine.imaging.preprocess import stored_model_image
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW
from engine.settings import PROJECT_DIR
from tests.benchmarks.near_duplicates import copies, square
from training.near_duplicates import BITS, MAX_DISTANCE, distance, near_by_hash, near_duplicates, perceptual_hash

REAL = PROJECT_DIR.parent / "shared" / "testdata" / "images"


@pytest.fixture(scope="module")
def pictures() -> list[tuple[tuple[str, int], np.ndarray]]:
    """((view, phantom), picture): 12 phantoms a view, and three of them in every form people save them in."""
    found = []
    for view in (View.HAND, View.WRIST, View.FUNDUS):
        for index in range(12):
            film = DRAW[view](seeds.VALIDATION + 300_000_000 + index, site="AB"[index % 2], film_scale=1.0).film()
            found.append(((view.value, index), square(display_pixels(film))))
            if index < 3:
                found += [((view.value, index), copy) for _, copy in copies(film)]
    return found


def test_exactly_the_copies_are_paired(pictures) -> None:
    """Every copy with its original; pairs of two copies may be further apart, but never of two films."""
    films = [film for film, _ in pictures]
    pairs = near_duplicates([perceptual_hash(p) for _, p in pictures], lambda i: pictures[i][1])
    assert all(films[i] == films[j] for i, j in pairs)
    paired = set(pairs)
    originals = {film: films.index(film) for film in films}
    assert all((originals[film], i) in paired for i, film in enumerate(films) if i != originals[film])


def test_near_by_hash_is_the_brute_force_answer() -> None:
    rng = np.random.default_rng(0)
    hashes = [rng.bytes(BITS // 8).hex() for _ in range(60)]
    for i in range(0, 60, 3):  # flip up to 40 bits, and make negatives
        flipped = int(hashes[i], 16)
        for bit in rng.choice(BITS, rng.integers(1, 40), replace=False):
            flipped ^= 1 << int(bit)
        hashes.append(f"{flipped if i % 2 else flipped ^ (1 << BITS) - 1:064x}")
    expected = [
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (d := bin(int(hashes[i], 16) ^ int(hashes[j], 16)).count("1")) <= MAX_DISTANCE or BITS - d <= MAX_DISTANCE
    ]
    assert sorted(near_by_hash(hashes)) == expected and expected
    assert all(distance(hashes[i], hashes[j]) <= MAX_DISTANCE for i, j in expected)


def test_blank_images_are_not_one_picture() -> None:
    blank = [np.full((64, 64), grey, np.uint8) for grey in (0, 90)]
    assert near_duplicates([perceptual_hash(b) for b in blank], lambda i: blank[i]) == []


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real images in {REAL}")
def test_real_images_are_paired_within_their_group_only() -> None:
    with (REAL / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown = [np.asarray(stored_model_image(load_film(REAL / row["file"]))) for row in rows]
    pairs = near_duplicates([perceptual_hash(picture) for picture in shown], lambda i: shown[i])
    assert all(rows[i]["group"] == rows[j]["group"] for i, j in pairs)
    assert len(pairs) >= 2  # two fundus images are there in two degrees of distortion
