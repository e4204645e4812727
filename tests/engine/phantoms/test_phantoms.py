"""The drawn phantoms: the truth they carry shows on the film, and a seed is one child wherever it is drawn."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from engine.findings.answers import View, check_answer
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image
from engine.phantoms import exposure
from engine.phantoms.centres import centres, draw_maturities
from engine.phantoms.fundus import fundus
from engine.phantoms.hand import hand
from engine.phantoms.other import other
from engine.phantoms.wrist import wrist

DRAW = (hand, fundus, wrist)


def seen(phantom) -> np.ndarray:
    """As the model sees it."""
    image = model_image(display_pixels(phantom.film())).resize((320, 320), Image.Resampling.BILINEAR)
    return np.asarray(image).astype(float)


@pytest.mark.parametrize("draw", DRAW)
def test_a_seed_is_one_phantom(draw):
    first, again, next_one = draw(5), draw(5), draw(6)
    assert np.array_equal(first.pixels, again.pixels) and first.answer == again.answer
    assert not np.array_equal(first.pixels, next_one.pixels)
    assert first.film().tags.made_by_phantom


@pytest.mark.parametrize("draw", DRAW)
def test_a_larger_film_shows_the_model_the_same(draw):
    for seed in range(3):
        small, large = draw(seed), draw(seed, film_scale=2.0)
        assert large.pixels.shape[0] == 2 * small.pixels.shape[0]
        assert large.answer == small.answer
        assert np.abs(seen(small) - seen(large)).mean() < 2.5  # grey levels; film noise is averaged once more


@pytest.mark.parametrize("draw", DRAW)
def test_every_answer_is_in_the_closed_set(draw):
    for seed in range(40):
        check_answer(draw(seed).answer)


def test_bones_appear_with_age():
    """More ossified centres mean more bright pixels in the carpal region, in both sexes."""
    for sex in ("M", "F"):
        bright = [
            np.mean([(seen(hand(s, bone_age_months=age, sex=sex)) > 150).mean() for s in range(4)])
            for age in (12, 72, 180)
        ]
        assert bright[0] < bright[1] < bright[2]


def test_maturities_scatter_about_the_bone_age():
    drawn = np.array([list(draw_maturities(np.random.default_rng(s), 120, "F").values()) for s in range(300)])
    assert abs(drawn.mean() - 120) < 0.5
    assert drawn.std() == pytest.approx(6.0, abs=0.3)
    assert len(centres("F")) == len(centres("M")) == 30


def test_a_fracture_changes_the_film_only_where_the_bone_breaks():
    for kind in ("buckle", "distal_radius"):
        normal, broken = seen(wrist(3, fracture="normal")), seen(wrist(3, fracture=kind))
        assert np.abs(normal - broken).max() > 20


def test_the_border_of_zone_i_lies_within_twice_the_disc_fovea_distance():
    assert all(fundus(s, zone="I").truth["zone_ratio"] < 2 for s in range(20))
    assert all(2 < fundus(s, zone="II").truth["zone_ratio"] < 3.4 for s in range(20))


def test_site_b_looks_different_and_reads_bone_age_by_its_own_standard():
    for draw in DRAW:
        a, b = draw(11), draw(11, site="B")
        assert np.abs(seen(a) - seen(b)).mean() > 3
    a, b = hand(11, bone_age_months=100), hand(11, bone_age_months=100, site="B")
    assert (a.answer["bone_age_months"], b.answer["bone_age_months"]) == (100, 106)


@pytest.mark.parametrize("draw", [hand, wrist])
def test_site_bs_films_carry_stripes_and_site_as_none(monkeypatch, draw):
    striped = draw(11, site="B")
    assert draw(11).truth["banding"] == 0 and 4.5 <= striped.truth["banding"] <= 6.5
    monkeypatch.setitem(exposure.SITES, "B", replace(exposure.SITES["B"], banding=(0.0, 0.0)))
    stripes = striped.pixels.astype(float) - draw(11, site="B").pixels
    spectrum = np.abs(np.fft.rfft2(stripes))
    row, column = np.unravel_index(spectrum[:, :200].argmax(), spectrum[:, :200].shape)
    row = min(row, len(stripes) - row)
    period_px = 1 / np.hypot(row / stripes.shape[0], column / stripes.shape[1])
    assert 14.5 < period_px < 17.5 and row / stripes.shape[0] > 5 * column / stripes.shape[1]


def test_the_varied_site_lies_between_the_two():
    looks = [wrist(seed, site="V").truth for seed in range(60)]
    assert min(t["banding"] for t in looks) < 2 and max(t["banding"] for t in looks) > 6
    assert 0.3 < np.mean([t["growth_arrest"] for t in looks]) < 0.7
    assert fundus(3, site="V").answer == fundus(3).answer


def test_other_images_are_colour_and_varied():
    images = [other(s) for s in range(24)]
    assert all(i.dtype == np.uint8 and i.ndim == 3 and i.shape[2] == 3 for i in images)
    assert len({round(float(i.mean()), 1) for i in images}) > 15


def test_views_are_named():
    assert [draw(1).view for draw in DRAW] == [View.HAND, View.FUNDUS, View.WRIST]
