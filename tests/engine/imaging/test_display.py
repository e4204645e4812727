"""The display formula, against the standard's own words (PS3.3 C.11.2.1.2) computed value by value."""

import math

import numpy as np
import pytest
from PIL import Image

from engine.imaging.display import display_pixels, save_png, to_modality_window, to_pixel_window, voi_table
from engine.imaging.film import Film, Voi


def standard_linear(x: float, c: float, w: float) -> float:
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 255
    return ((x - (c - 0.5)) / (w - 1) + 0.5) * 255


def standard_linear_exact(x: float, c: float, w: float) -> float:
    if x <= c - w / 2:
        return 0
    if x > c + w / 2:
        return 255
    return ((x - c) / w + 0.5) * 255


def standard_sigmoid(x: float, c: float, w: float) -> float:
    return 255 / (1 + math.exp(-4 * (x - c) / w))


STANDARD = {"linear": standard_linear, "linear_exact": standard_linear_exact, "sigmoid": standard_sigmoid}


@pytest.mark.parametrize("kind", STANDARD)
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (100.5, 1), (300, 2), (1000.25, 37.5), (30000, 65535)])
def test_windows_follow_the_standard(kind: str, center: float, width: float) -> None:
    table = voi_table(Voi("w", kind, center, width))
    for x in [*range(0, 4200), *range(4200, 65536, 97)]:
        exact = STANDARD[kind](x, center, width) if abs(x - center) / width < 150 else (255 if x > center else 0)
        assert table[x] == math.floor(exact + 0.5), x


def test_an_8_bit_picture_shown_as_stored_is_unchanged() -> None:
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    film = Film(pixels, "png", (Voi("as stored", "linear_exact", 127.5, 255.0),))
    assert np.array_equal(display_pixels(film), pixels)


def test_a_lut_is_clamped_at_both_ends() -> None:
    table = voi_table(Voi("lut", "lut", lut=np.array([10, 20, 250], np.uint8), lut_first=100))
    assert [table[99], table[100], table[101], table[102], table[103], table[65535]] == [10, 10, 20, 250, 250, 250]


def test_inversion_comes_after_the_voi_and_background_after_the_inversion() -> None:
    pixels = np.array([[0, 1, 1000, 4000]], np.uint16)
    voi = Voi("w", "linear_exact", 2000, 4000)
    assert display_pixels(Film(pixels, "dicom", (voi,))).tolist() == [[0, 0, 64, 255]]
    assert display_pixels(Film(pixels, "dicom", (voi,), inverted=True)).tolist() == [[255, 255, 191, 0]]
    assert display_pixels(Film(pixels, "dicom", (voi,), inverted=True, background=0)).tolist() == [[0, 255, 191, 0]]


def test_colour_is_shown_as_it_is(tmp_path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    save_png(Film(pixels, "jpeg"), tmp_path / "out.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), pixels)


@pytest.mark.parametrize("kind", STANDARD)
def test_a_window_survives_the_way_to_pixel_units_and_back(kind: str) -> None:
    slope, intercept = 0.5, -1024.0
    center, width = to_pixel_window(kind, 40, 400, slope, intercept)
    assert to_modality_window(kind, center, width, slope, intercept) == pytest.approx((40, 400))
    table = voi_table(Voi("w", kind, center, width))
    for pixel in range(0, 4000, 7):
        assert table[pixel] == math.floor(STANDARD[kind](pixel * slope + intercept, 40, 400) + 0.5)


@pytest.mark.parametrize("width", [0, -5, math.nan, 0.5])
def test_a_window_without_a_width_is_an_error(width: float) -> None:
    with pytest.raises(ValueError, match="width"):
        voi_table(Voi("w", "linear", 10, width))
