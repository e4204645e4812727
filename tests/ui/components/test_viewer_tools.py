"""What a reader lays on the film, and how they turn it: by hand and from the keyboard alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from engine.imaging.display import display_pixels
from engine.imaging.film import Film, Voi
from tests.ui.components.film_page import Show, attribute, canvas, data_of, drawn, ready, shower
from tests.workstation import film_pixels

WINDOW = Voi("window 1", "linear", 2000.0, 1800.0)
FUNDUS = np.random.default_rng(3).integers(0, 256, (400, 400, 3), np.uint8)


def film(**facts) -> Film:
    return Film(film_pixels(), "dicom", (WINDOW,), **facts)


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where the film's (x, y) is on the page, the film as stored."""
    drawn(page)
    box = page.locator(".stage").first.bounding_box()
    left, top = (float(value) for value in attribute(page, "origin").split())
    zoom = float(attribute(page, "zoom"))
    return box["x"] + left + x * zoom, box["y"] + top + y * zoom


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*on_screen(page, *start))
    page.mouse.down()
    page.mouse.move(*on_screen(page, *end), steps=4)
    page.mouse.up()
    drawn(page)


def click(page: Page, *points: tuple[float, float]) -> None:
    for point in points:
        page.mouse.click(*on_screen(page, *point))
    drawn(page)


def label(page: Page) -> str:
    return page.locator(".label > span").last.inner_text()


@pytest.mark.parametrize(
    ("facts", "expected", "unit"),
    [
        ({"spacing_mm": (0.2, 0.2), "spacing_source": "calibrated"}, 20.0, "mm (calibrated)"),
        ({"spacing_mm": (0.2, 0.2), "spacing_source": "detector"}, 20.0, "mm at detector"),
        ({}, 100, "px"),
        ({"spacing_mm": (0.2, 0.2)}, 100, "px"),
    ],
    ids=["calibrated", "detector", "unknown", "source unknown"],
)
def test_a_length_is_called_what_it_is(show: Show, facts: dict, expected: float, unit: str) -> None:
    page = ready(show(film(**facts)))
    page.keyboard.press("m")
    drag(page, (40, 60), (120, 120))  # 80 across, 60 down: 100 pixels
    number, said = label(page).split(" ", 1)
    assert said == unit
    assert float(number) == pytest.approx(expected, rel=0.01)


def test_an_angle_takes_three_points_and_its_corner_can_be_moved(show: Show) -> None:
    page = ready(show(film()))
    page.keyboard.press("n")
    click(page, (50, 50), (50, 150), (150, 150))
    assert float(label(page).removesuffix("°")) == pytest.approx(90, abs=0.5)
    drag(page, (50, 150), (100, 150))  # by its handle
    expected = 180 - math.degrees(math.atan2(100, 50))
    assert float(label(page).removesuffix("°")) == pytest.approx(expected, abs=1)


def test_measuring_from_the_keyboard_alone(show: Show) -> None:
    page = ready(show(film()))
    page.keyboard.press("m")
    page.keyboard.press(" ")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press(" ")
    drawn(page)
    across = 5 * 20 / float(attribute(page, "zoom"))
    assert label(page) == f"{across:.0f} px"
    expect(page.locator(".said")).to_have_text(label(page))  # a screen reader hears it
    page.keyboard.press("Delete")
    expect(page.locator(".label")).to_have_count(0)


def test_every_tool_has_a_key_and_does_something(show: Show) -> None:
    page = ready(
        show(film(), others={"/pixels?2": film()}, beside=[data_of(film(), caption="earlier", url="/pixels?2")])
    )
    pressed = page.locator(".tool[aria-pressed=true]")
    for key, action in {"w": "window", "p": "pan", "m": "length", "n": "angle", "b": "rectangle"}.items():
        page.keyboard.press(key)
        assert pressed.first.get_attribute("data-action") == action
    for key, name, value in [
        ("t", "turned", "90"), ("Shift+T", "turned", "0"), ("h", "turned", "0 mirrored"), ("Shift+H", "turned", "180"),
        ("i", "inverted", "true"), ("v", "voi", "Bone"), ("v", "voi", "Soft tissue"), ("v", "voi", "Full range"),
        ("v", "voi", "window 1"), ("Shift+V", "voi", "Full range"), ("a", "zoom", "1"), ("+", "zoom", "1.25"),
        ("-", "zoom", "1"), ("r", "turned", "0"), ("o", "beside", ""),
    ]:  # fmt: skip
        page.keyboard.press(key)
        drawn(page)
        assert attribute(page, name) == value, key
    page.keyboard.press("g")
    expect(page.locator(".loupe").first).to_be_visible()
    page.keyboard.press("g")
    expect(page.locator(".loupe").first).to_be_hidden()


def test_arrows_do_what_dragging_does(show: Show) -> None:
    page = ready(show(film()))
    page.keyboard.press("w")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    drawn(page)
    center, width = (float(value) for value in attribute(page, "window").split())
    assert center > 2000 and width > 1800


def test_a_finding_is_handed_over_in_film_pixels_and_comes_back(show: Show) -> None:
    page = ready(show(film()))
    page.keyboard.press("t")  # turned on screen; the film's own pixels count
    page.keyboard.press("r")
    page.keyboard.press("b")
    drag(page, (200, 240), (100.4, 80.4))
    [kept] = page.evaluate("() => window.kept")
    assert kept["image"] == 1 and kept["landmarks"] is None
    [region] = kept["regions"]
    for name, value in {"x0": 100, "y0": 80, "x1": 200, "y1": 240}.items():
        assert region[name] == pytest.approx(value, abs=1)
    page.evaluate("data => window.mount(data)", data_of(film(), url="/pixels?2", image=2, kept={"regions": [region]}))
    ready(page)
    expect(page.locator("svg .rectangle")).to_have_count(1)


def test_what_a_region_holds_is_said(show: Show) -> None:
    shown = film(slope=2.0, intercept=-100.0)
    region = {"x0": 30, "y0": 10, "x1": 70, "y1": 60}
    page = ready(show(shown, kept={"regions": [region]}))
    inside = shown.pixels[10:60, 30:70].astype(float) * 2 - 100
    assert label(page) == f"40 x 50 px, mean {inside.mean():.0f} ± {inside.std():.0f}"


def test_a_turned_film_is_turned_in_every_pixel(show: Show) -> None:
    """Against numpy's turns of the same film; measures stay on what they were laid on."""
    pixels = np.random.default_rng(5).integers(0, 4096, (211, 153)).astype(np.uint16)
    shown = Film(pixels, "dicom", (WINDOW,))
    page = ready(show(shown, kept={"regions": [{"x0": 10, "y0": 20, "x1": 50, "y1": 90}]}))
    turns = {"t": lambda a: np.rot90(a, -1), "Shift+T": np.rot90, "h": np.fliplr, "Shift+H": np.flipud}
    expected = display_pixels(shown)
    for key in ["t", "t", "Shift+T", "h", "t", "Shift+H", "h"]:
        page.keyboard.press(key)
        page.keyboard.press("a")
        drawn(page)
        expected = turns[key](expected)
        left, top = (int(float(value)) for value in attribute(page, "origin").split())
        rows, cols = expected.shape
        assert np.array_equal(canvas(page)[top : top + rows, left : left + cols, 0], expected)
        rect = page.locator("svg .rectangle rect").last
        size = sorted(round(float(rect.get_attribute(name))) for name in ("width", "height"))
        assert size == [40, 70]


def test_bone_and_soft_tissue_are_told_apart_on_the_film_itself(show: Show) -> None:
    """Three plateaus: air, soft tissue, bone. Bone's window spreads what the soft-tissue one shows as white."""
    rng = np.random.default_rng(2)
    pixels = np.full((300, 300), 400.0)
    pixels[50:250, 50:250] = 1500
    pixels[100:200, 100:200] = 3200 + np.linspace(-300, 300, 100)
    pixels = (pixels + rng.normal(0, 20, pixels.shape)).astype(np.uint16)
    page = ready(show(Film(pixels, "dicom", (Voi("all", "linear_exact", 2000.0, 4000.0),))))
    page.keyboard.press("v")
    page.keyboard.press("a")
    drawn(page)
    left, top = (int(float(value)) for value in attribute(page, "origin").split())
    grey = canvas(page)[top:, left:, 0].astype(int)
    assert grey[150, 190] - grey[150, 110] > 50 and grey[75, 75] < 30
    page.keyboard.press("v")
    drawn(page)
    grey = canvas(page)[top:, left:, 0].astype(int)
    assert grey[100:200, 100:200].min() == 255 and 60 < grey[75, 75] < 220 and grey[20, 20] < 30


def test_zones_come_from_disc_and_fovea_and_say_what_is_estimated(show: Show) -> None:
    page = ready(show(Film(FUNDUS, "png"), fundus=True, side="R"))
    page.keyboard.press("z")
    click(page, (240, 200), (200, 200))  # the disc to the right of the fovea: a right eye
    zoom = float(attribute(page, "zoom"))
    one, two = (
        float(circle.get_attribute("r")) for circle in page.locator("svg .zones circle:not(.halo):not(.handle)").all()
    )
    assert one == pytest.approx(2 * 40 * zoom, rel=0.03)  # ICROP3: twice the distance
    assert two > one
    assert "estimated" in label(page)
    kept = page.evaluate("() => window.kept.at(-1)")
    assert kept["landmarks"]["disc"] == pytest.approx([240, 200], abs=1)
    drag(
        page,
        (240 + two / zoom * math.cos(1), 200 + two / zoom * math.sin(1)),
        (240 + 150 * math.cos(1), 200 + 150 * math.sin(1)),
    )
    two = float(page.locator("svg .zones circle:not(.halo):not(.handle)").nth(1).get_attribute("r"))
    assert two == pytest.approx(150 * zoom, rel=0.03)
    assert "set by hand" in label(page)
    kept = page.evaluate("() => window.kept.at(-1).landmarks")
    assert math.dist(kept["disc"], kept["ora"]) == pytest.approx(150, rel=0.03)
    data = data_of(Film(FUNDUS, "png"), url="/pixels?2", image=2, fundus=True, side="R", kept={"landmarks": kept})
    page.evaluate("data => window.mount(data)", data)
    ready(page)
    assert "set by hand" in label(page)
    page.locator("svg .zones").wait_for(state="attached")
    click(page, tuple(kept["fovea"]))  # takes hold of it, and so marks it
    page.get_by_role("button", name="Remove: Zone II").click()
    expect(page.locator(".label")).to_have_count(0)
    assert page.evaluate("() => window.kept.at(-1).landmarks") is None


def test_a_fovea_on_the_wrong_side_is_a_contradiction(show: Show) -> None:
    page = ready(show(Film(FUNDUS, "png"), fundus=True, side="L"))
    page.keyboard.press("z")
    click(page, (240, 200), (200, 200))
    assert label(page) == "Disc and fovea lie as in a right eye, but this film is marked left"


def test_red_free_is_the_green_channel(show: Show) -> None:
    shown = Film(FUNDUS, "png")
    page = ready(show(shown, fundus=True))
    page.keyboard.press("d")
    page.keyboard.press("a")
    drawn(page)
    left, top = (int(float(value)) for value in attribute(page, "origin").split())
    green = np.repeat(FUNDUS[:, :, 1:2], 3, axis=2)
    assert np.array_equal(canvas(page)[top : top + 400, left : left + 400], green)


def test_the_film_beside_follows_in_place_and_in_size(show: Show) -> None:
    larger = Film(film_pixels(640, 520), "dicom", (WINDOW,))
    captions = ["12 Mar 2024, 12 months earlier", "1 Mar 2022, 36 months earlier"]
    beside = [data_of(larger, caption=caption, url="/pixels?2", image=7) for caption in captions]
    page = ready(show(film(), others={"/pixels?2": larger}, beside=beside))
    page.keyboard.press("o")
    other = page.locator(".pane").nth(1)
    expect(other).to_have_attribute("data-state", "ready")
    expect(page.get_by_label("Film beside").locator("option")).to_have_text(captions)
    drawn(page)
    assert float(attribute(page, "zoom")) == pytest.approx(2 * float(other.get_attribute("data-zoom")), rel=0.01)
    page.mouse.move(*on_screen(page, 130, 160))
    for _ in range(4):
        page.mouse.wheel(0, -120)
    drawn(page)
    assert float(attribute(page, "zoom")) == pytest.approx(2 * float(other.get_attribute("data-zoom")), rel=0.01)
    box = other.locator(".stage").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 200)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 130, box["y"] + 240)
    page.mouse.up(button="right")
    drawn(page)
    left, top = (float(value) for value in attribute(page, "origin").split())
    its_left, its_top = (float(value) for value in other.get_attribute("data-origin").split())
    assert (its_left, its_top) == (pytest.approx(left, abs=2), pytest.approx(top, abs=2))
    page.keyboard.press("o")
    expect(page.locator(".pane")).to_have_count(1)


def test_on_a_fine_screen_every_device_pixel_is_drawn(browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, device_scale_factor=1.5)
    page = ready(shower(context.new_page())(film()))
    across = page.locator("canvas.film").evaluate("canvas => [canvas.width, canvas.getBoundingClientRect().width]")
    assert across == [1347, 898]
    page.keyboard.press("a")
    drawn(page)
    left, top = (int(float(value)) for value in attribute(page, "origin").split())
    assert np.array_equal(canvas(page)[top : top + 320, left : left + 260, 0], display_pixels(film()))
    context.close()


def test_films_of_a_pixel_or_a_line_do_not_break_it(show: Show, page: Page) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    for shape in [(1, 1), (1, 3000), (3000, 1)]:
        ready(show(Film(np.full(shape, 2000, np.uint16), "dicom", (WINDOW,))))
        for key in "vvvvtham+-nbf":
            page.keyboard.press(key)
        click(page, (0.5, 0.5))
        assert problems == []
        assert float(attribute(page, "zoom")) > 0


def test_a_huge_film_is_shown(show: Show) -> None:
    page = show(film())
    page.evaluate("""() => {
        window.fetch = async () => {
            const pixels = new Uint16Array(9000 * 9000);
            for (let row = 4000; row < 5000; row++) pixels.fill(4000, row * 9000 + 4000, row * 9000 + 5000);
            return { ok: true, arrayBuffer: async () => pixels.buffer };
        };
    }""")
    page.evaluate("data => window.mount(data)", data_of(film(), url="/huge", image=2, rows=9000, cols=9000))
    expect(page.locator(".viewer")).to_have_attribute("data-image", "2")
    ready(page)
    shown = canvas(page)[:, :, 0]
    middle = (shown.shape[0] // 2, shown.shape[1] // 2)
    assert shown[middle] == 255 and shown[100, middle[1]] == 0
