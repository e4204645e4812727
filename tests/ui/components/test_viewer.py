"""The viewer in a real browser, on its own: what stands on the canvas is what engine.imaging.display says."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from engine.imaging.display import display_pixels
from engine.imaging.film import Film, Voi
from tests.ui.components.film_page import Show, attribute, canvas, data_of, drawn, ready
from tests.workstation import film_pixels

LUT = Voi("VOI LUT 1", "lut", lut=np.linspace(255, 10, 3000).astype(np.uint8), lut_first=400)
KINDS = [
    Voi("window 1", "linear", 2000.0, 1800.0),
    Voi("narrow", "linear", 2000.0, 1.0),
    Voi("exact", "linear_exact", 1700.0, 2500.0),
    Voi("soft", "sigmoid", 2100.0, 900.0),
    LUT,
]


def film_on_canvas(page: Page, film: Film) -> np.ndarray:
    """The part of the canvas that holds the film at 1:1."""
    page.keyboard.press("a")
    drawn(page)
    left, top = (round(float(value)) for value in attribute(page, "origin").split())
    rows, cols = film.pixels.shape[:2]
    return canvas(page)[top : top + rows, left : left + cols]


def off_by(shown: np.ndarray, expected: np.ndarray) -> int:
    expected = expected if expected.ndim == 3 else np.repeat(expected[:, :, None], 3, axis=2)
    return int(np.abs(shown.astype(int) - expected.astype(int)).max())


@pytest.mark.parametrize("voi", KINDS, ids=lambda voi: voi.name)
@pytest.mark.parametrize("inverted", [False, True], ids=["as stored", "inverted"])
def test_the_canvas_shows_the_display_pixels(show: Show, voi: Voi, inverted: bool) -> None:
    film = Film(film_pixels(), "dicom", (voi,), inverted=inverted)
    page = ready(show(film))
    assert off_by(film_on_canvas(page, film), display_pixels(film)) <= 1


def test_padding_stays_black_however_the_film_is_inverted(show: Show) -> None:
    pixels = np.maximum(film_pixels(), 1)
    pixels[:40] = 0
    film = Film(pixels, "dicom", (KINDS[0],), inverted=True, background=0)
    page = ready(show(film))
    assert off_by(film_on_canvas(page, film), display_pixels(film)) <= 1
    page.keyboard.press("f")
    drawn(page)
    top = float(attribute(page, "origin").split()[1])
    edge = round(top + 40 * float(attribute(page, "zoom")))
    above, below = canvas(page)[edge - 2, 450, 0], canvas(page)[edge + 2, 450, 0]
    assert above == 0
    assert below == pytest.approx(display_pixels(film)[41, 130], abs=8)  # no grey in between


def test_colour_is_shown_as_it_is_and_can_be_inverted(show: Show) -> None:
    rng = np.random.default_rng(1)
    film = Film(rng.integers(0, 256, (300, 310, 3), np.uint8), "png")
    page = ready(show(film))
    assert off_by(film_on_canvas(page, film), film.pixels) == 0
    page.keyboard.press("i")
    assert off_by(film_on_canvas(page, film), 255 - film.pixels) == 0


def test_the_windows_of_the_file_can_be_chosen_by_name_and_by_key(show: Show) -> None:
    film = Film(film_pixels(), "dicom", tuple(KINDS))
    page = ready(show(film))
    page.get_by_label("Window", exact=True).select_option(label="soft")
    assert off_by(film_on_canvas(page, film), display_pixels(film, KINDS[3])) <= 1
    page.locator(".stage").focus()
    page.keyboard.press("v")
    drawn(page)
    assert attribute(page, "voi") == "VOI LUT 1"
    assert off_by(film_on_canvas(page, film), display_pixels(film, LUT)) <= 1


def test_dragging_changes_width_across_and_level_down_and_reset_brings_them_back(show: Show) -> None:
    film = Film(film_pixels(), "dicom", (KINDS[0],))
    page = ready(show(film))
    opened = canvas(page)
    page.mouse.move(400, 300)
    page.mouse.down()
    page.mouse.move(460, 270, steps=4)
    page.mouse.up()
    drawn(page)
    center, width = (float(value) for value in attribute(page, "window").split())
    assert width > 1800 and center < 2000
    expected = display_pixels(film, Voi("by hand", "linear", center, width))
    assert off_by(film_on_canvas(page, film), expected) <= 1
    page.keyboard.press("r")
    drawn(page)
    assert attribute(page, "window") == "2000 1800"
    assert np.array_equal(canvas(page), opened)


def test_a_table_from_the_file_becomes_a_window_once_it_is_dragged(show: Show) -> None:
    page = ready(show(Film(film_pixels(), "dicom", (LUT,))))
    page.mouse.move(400, 300)
    page.mouse.down()
    page.mouse.move(420, 300)
    page.mouse.up()
    drawn(page)
    assert attribute(page, "voi") == "by hand"


def test_the_wheel_zooms_to_the_cursor(show: Show) -> None:
    page = ready(show(Film(film_pixels(), "dicom", (KINDS[0],))))
    page.mouse.move(500, 200)
    before = page.locator(".probe").inner_text()
    zoom = float(attribute(page, "zoom"))
    for _ in range(5):
        page.mouse.wheel(0, -120)
    drawn(page)
    assert float(attribute(page, "zoom")) > 2 * zoom
    page.mouse.move(500, 200)
    assert page.locator(".probe").inner_text() == before


def test_the_probe_names_position_and_value_in_the_files_unit(show: Show) -> None:
    film = Film(film_pixels(), "dicom", (KINDS[0],), slope=2.0, intercept=-1000.0)
    page = ready(show(film))
    page.keyboard.press("a")
    drawn(page)
    left, top = (float(value) for value in attribute(page, "origin").split())
    page.locator(".stage").hover(position={"x": left + 120.5, "y": top + 50.5})
    expected = int(film.pixels[50, 120]) * 2 - 1000
    assert page.locator(".probe").inner_text() == f"x 120  y 50  value {expected}"


def test_panning_by_shift_drag_and_by_arrows_in_the_focused_film(show: Show) -> None:
    page = ready(show(Film(film_pixels(), "dicom", (KINDS[0],))))
    left, top = (float(value) for value in attribute(page, "origin").split())
    page.mouse.move(400, 300)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(430, 340)
    page.mouse.up()
    page.keyboard.up("Shift")
    drawn(page)
    assert attribute(page, "origin") == f"{left + 30:g} {top + 40:g}"
    assert attribute(page, "window") == "2000 1800"
    page.keyboard.press("p")
    page.keyboard.press("ArrowLeft")
    drawn(page)
    assert attribute(page, "origin") == f"{left + 70:g} {top + 40:g}"


def test_two_fingers_zoom_and_move_the_film(show: Show) -> None:
    page = ready(show(Film(film_pixels(), "dicom", (KINDS[0],))))
    zoom, window = float(attribute(page, "zoom")), attribute(page, "window")
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *points: tuple[int, int]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    fingers("touchStart", (400, 300), (500, 300))
    for spread in range(10, 110, 10):
        fingers("touchMove", (400 - spread // 2, 300), (500 + spread // 2, 300))
    fingers("touchEnd")
    drawn(page)
    assert float(attribute(page, "zoom")) == pytest.approx(2 * zoom, rel=0.05)
    assert attribute(page, "window") == window


def test_a_reduced_film_is_averaged_not_sampled(show: Show) -> None:
    """A fine checkerboard turns grey when it is reduced; sampling would leave black, white or stripes."""
    board = (np.indices((2400, 2000)).sum(axis=0) % 2 * 4000).astype(np.uint16)
    page = ready(show(Film(board, "dicom", (Voi("all", "linear_exact", 2000.0, 4000.0),))))
    middle = canvas(page)[200:400, 350:550, 0]
    assert middle.min() >= 125 and middle.max() <= 130


def test_a_magnified_film_is_smooth(show: Show) -> None:
    steps = np.repeat(np.arange(0, 4000, 1000, np.uint16)[None, :], 4, axis=0)
    page = ready(show(Film(steps, "dicom", (Voi("all", "linear_exact", 1500.0, 3000.0),))))
    line = canvas(page)[300, :, 0].astype(int)
    inside = line[150:750]
    assert np.abs(np.diff(inside)).max() <= 2


def test_loading_and_failure_are_said_on_the_film(show: Show) -> None:
    page = show(Film(film_pixels(), "dicom", (KINDS[0],)), url="/gone")
    expect(page.locator(".viewer")).to_have_attribute("data-state", "error")
    expect(page.locator(".message")).to_contain_text(
        "The pixels of this film are gone: image 9 is no longer on disk: restore it from a backup."
    )
    expect(page.locator(".message")).to_contain_text("reject the case as not readable")
    assert canvas(page).max() == 0


def test_pixels_of_another_size_are_refused(show: Show) -> None:
    page = show(Film(film_pixels(), "dicom", (KINDS[0],)), rows=17)
    expect(page.locator(".viewer")).to_have_attribute("data-state", "error")
    expect(page.locator(".message")).to_contain_text("bytes arrived where")


def test_the_last_film_is_gone_at_once_when_another_is_opened(show: Show) -> None:
    film = Film(film_pixels(), "dicom", (KINDS[0],))
    page = ready(show(film))
    state = page.evaluate("data => { window.mount(data); return document.querySelector('.viewer').dataset.state; }",
                          data_of(film, url="/pixels?2", image=2))  # fmt: skip
    assert state == "loading"
    ready(page)
    assert attribute(page, "image") == "2"


def test_the_next_film_is_fetched_ahead(show: Show) -> None:
    with_next = Film(film_pixels(), "dicom", (KINDS[0],))
    page = show(with_next, prefetch=["/pixels?next"])
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    ready(page)
    page.wait_for_timeout(200)
    already = list(requested)
    page.evaluate("data => window.mount(data)", data_of(with_next, url="/pixels?next", image=2))
    ready(page)
    assert attribute(page, "image") == "2"
    assert [url for url in requested if url not in already] == []


def test_the_key_map_names_the_pages_keys_and_the_films(show: Show) -> None:
    page = ready(show(Film(film_pixels(), "dicom", (KINDS[0],))))
    page.keyboard.press("?")
    expect(page.locator(".keymap")).to_contain_text("confirm and next")
    expect(page.locator(".keymap")).to_contain_text("Length two points")
    page.keyboard.press("Escape")
    expect(page.locator(".keymap")).to_be_hidden()
