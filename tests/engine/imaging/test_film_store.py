import gzip
from datetime import date

import numpy as np
import pytest

from engine.errors import Damaged, NotFound
from engine.imaging import film_store
from engine.imaging.display import display_pixels
from engine.imaging.film import Film, FilmTags, Voi

KEY = "ab" * 32

GREY = Film(
    pixels=np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000,
    source_format="dicom",
    vois=(
        Voi("VOI LUT 1", "lut", lut=np.arange(256, dtype=np.uint8)[::-1].copy(), lut_first=7),
        Voi("Schädel", "sigmoid", 100.5, 20.25),
    ),
    inverted=True,
    background=0,
    slope=0.5,
    intercept=-1000.0,
    spacing_mm=(0.1, 0.1),
    spacing_source="detector",
    warnings=("one", "two"),
    tags=FilmTags(
        patient_id="7", patient_birth_date=date(2015, 2, 3), acquired_on=date(2024, 2, 29), image_type=("ORIGINAL",)
    ),
)
COLOUR = Film(np.arange(36, dtype=np.uint8).reshape(3, 4, 3), "jpeg")


@pytest.mark.parametrize("film", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_film_comes_back_as_it_went(tmp_path, film: Film) -> None:
    entry_sha256 = film_store.save(tmp_path, KEY, film)
    back = film_store.load(tmp_path, KEY, entry_sha256)
    assert np.array_equal(back.pixels, film.pixels)
    assert back.pixels.dtype == film.pixels.dtype
    assert np.array_equal(display_pixels(back), display_pixels(film))
    facts = film_store.film_header(film)
    assert film_store.film_header(back) == facts
    assert film_store.film_header(film_store.load_without_pixels(tmp_path, KEY)) == facts
    assert back.tags == film.tags
    assert back.warnings == film.warnings


def test_the_download_is_little_endian_pixels(tmp_path) -> None:
    film_store.save(tmp_path, KEY, GREY)
    data = gzip.decompress(film_store.load_gzip(tmp_path, KEY))
    assert data == GREY.pixels.astype("<u2").tobytes()


def test_saving_again_changes_nothing_and_leaves_nothing_behind(tmp_path) -> None:
    first = film_store.save(tmp_path, KEY, GREY)
    written = {path: path.stat().st_ino for path in tmp_path.rglob("*")}
    assert film_store.save(tmp_path, KEY, GREY) == first
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*")} == written


def test_what_was_left_in_its_place_is_replaced(tmp_path) -> None:
    film_store.save(tmp_path, KEY, COLOUR)
    entry_sha256 = film_store.save(tmp_path, KEY, GREY)
    assert not film_store.load(tmp_path, KEY, entry_sha256).is_colour
    assert [path.name for path in (tmp_path / "ab").iterdir()] == [KEY]


@pytest.mark.parametrize("compress_later", [False, True])
@pytest.mark.parametrize("name", [film_store.HEADER, film_store.PIXELS])
def test_a_changed_file_is_refused(tmp_path, name: str, compress_later: bool) -> None:
    entry_sha256 = film_store.save(tmp_path, KEY, GREY, compress_later=compress_later)
    file = film_store.entry_folder(tmp_path, KEY) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for open_it in (film_store.load, film_store.load_gzip):
        with pytest.raises(Damaged, match=name):
            open_it(tmp_path, KEY, entry_sha256)
    file.unlink()
    with pytest.raises(Damaged, match=name):
        film_store.load(tmp_path, KEY, entry_sha256)


def test_a_film_that_is_not_there(tmp_path) -> None:
    assert not film_store.exists(tmp_path, KEY)
    with pytest.raises(NotFound):
        film_store.load(tmp_path, KEY)


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "AB" * 32, "ab" * 31])
def test_only_a_hash_names_an_entry(tmp_path, key: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        film_store.save(tmp_path, key, GREY)


@pytest.mark.parametrize("film", [GREY, COLOUR], ids=["grey", "colour"])
def test_what_is_compressed_later_is_the_same_before_and_after(tmp_path, film: Film) -> None:
    film_store.save(tmp_path, KEY, film, compress_later=True)
    assert film_store.loose(tmp_path) == [KEY]
    packed = film_store.pixels_gzip_path(tmp_path, KEY)
    before = gzip.decompress(packed.read_bytes())
    np.testing.assert_array_equal(film_store.load(tmp_path, KEY).pixels, film.pixels)
    film_store.compress_loose(tmp_path, KEY)
    assert film_store.loose(tmp_path) == []
    assert gzip.decompress(packed.read_bytes()) == before == film.pixels.tobytes()
    np.testing.assert_array_equal(film_store.load(tmp_path, KEY).pixels, film.pixels)
    assert [path.name for path in packed.parent.iterdir() if "unfinished" in path.name] == []


def test_a_film_that_went_again_is_no_longer_loose(tmp_path) -> None:
    film_store.save(tmp_path, KEY, GREY, compress_later=True)
    film_store.pixels_gzip_path(tmp_path, KEY).unlink()
    film_store.compress_loose(tmp_path, KEY)
    assert film_store.loose(tmp_path) == []


def test_a_damaged_film_is_left_as_it_is(tmp_path) -> None:
    film_store.save(tmp_path, KEY, GREY, compress_later=True)
    film_store.pixels_gzip_path(tmp_path, KEY).write_bytes(b"damaged")
    film_store.compress_loose(tmp_path, KEY)
    assert film_store.pixels_gzip_path(tmp_path, KEY).read_bytes() == b"damaged"
