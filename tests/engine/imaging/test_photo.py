"""PNG and JPEG to Film: what is shown is what any picture viewer shows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.imaging.display import display_pixels
from engine.imaging.photo import read_photo

NOISE = np.random.default_rng(1).integers(0, 256, (40, 60), np.uint8)
COLOUR = np.random.default_rng(2).integers(0, 256, (40, 60, 3), np.uint8)


def shown(path: Path) -> np.ndarray:
    return display_pixels(read_photo(path))


def test_8_bit_grey_is_shown_as_stored(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    film = read_photo(tmp_path / "a.png")
    assert not film.is_colour
    assert np.array_equal(display_pixels(film), NOISE)
    assert [voi.name for voi in film.vois] == ["as stored", "automatic"]


def test_16_bit_grey_gets_the_automatic_window(tmp_path: Path) -> None:
    pixels = np.linspace(1000, 5000, 2400).astype(np.uint16).reshape(40, 60)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    film = read_photo(tmp_path / "a.png")
    assert np.array_equal(film.pixels, pixels)
    assert film.vois[0].name == "automatic"
    assert display_pixels(film).min() == 0
    assert display_pixels(film).max() == 255
    assert any("16-bit" in warning for warning in film.warnings)


def test_colour_is_kept(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    film = read_photo(tmp_path / "a.png")
    assert film.is_colour
    assert np.array_equal(film.pixels, COLOUR)


def test_a_radiograph_saved_as_rgb_becomes_grey(tmp_path: Path) -> None:
    Image.fromarray(np.repeat(NOISE[..., None], 3, axis=2)).save(tmp_path / "a.png")
    film = read_photo(tmp_path / "a.png")
    assert not film.is_colour
    assert np.array_equal(display_pixels(film), NOISE)


def test_a_palette_picture_gets_its_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOUR).quantize(16)
    picture.save(tmp_path / "a.png")
    assert np.array_equal(shown(tmp_path / "a.png"), np.asarray(picture.convert("RGB")))


def test_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(NOISE > 127).save(tmp_path / "a.png")
    assert np.array_equal(shown(tmp_path / "a.png"), np.where(NOISE > 127, 255, 0))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_over_black(tmp_path: Path, mode: str) -> None:
    picture = Image.new("LA", (60, 40), (200, 255)).convert(mode)
    picture.paste(Image.new("LA", (30, 40), (200, 0)).convert(mode), (0, 0))
    picture.save(tmp_path / "a.png")
    film = read_photo(tmp_path / "a.png")
    assert display_pixels(film)[0, 0] == 0
    assert display_pixels(film)[0, 59] == 200
    assert any("transparent" in warning for warning in film.warnings)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """The picture is stored turned, with the EXIF value that turns it back: the bright corner ends up top left."""
    upright = np.zeros((32, 64), np.uint8)
    upright[:16, :16] = 255
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo(upright))).save(tmp_path / "a.jpg", exif=exif, quality=95)
    grey = shown(tmp_path / "a.jpg").astype(int)
    assert grey.shape == (32, 64)
    assert np.abs(grey - upright).max() < 20
    assert read_photo(tmp_path / "a.jpg").source_format == "jpeg"


def test_a_cmyk_jpeg_is_shown_in_colour_and_said(tmp_path: Path) -> None:
    Image.new("CMYK", (30, 20), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    film = read_photo(tmp_path / "a.jpg")
    assert film.is_colour
    assert film.pixels[0, 0, 0] > film.pixels[0, 0, 1]
    assert any("CMYK" in warning for warning in film.warnings)


def test_a_picture_says_nothing_about_the_child_unless_a_phantom_made_it(tmp_path: Path) -> None:
    facts = PngInfo()
    facts.add_text("Software", "PediScreen phantom")
    Image.fromarray(NOISE).save(tmp_path / "phantom.png", pnginfo=facts)
    Image.fromarray(NOISE).save(tmp_path / "real.png")
    assert read_photo(tmp_path / "phantom.png").tags.made_by_phantom
    assert not read_photo(tmp_path / "real.png").tags.made_by_phantom
    assert read_photo(tmp_path / "real.png").tags.patient_id is None
