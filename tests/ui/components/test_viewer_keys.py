"""The map of the keys, keys of one's own, and what is said when a film does not come."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from engine.imaging.film import Film, Voi
from tests.ui.components.film_page import HOST, Show, attribute, data_of, drawn, ready, stored
from tests.workstation import film_pixels
from ui.components import viewer

FILM = Film(film_pixels(), "dicom", (Voi("window 1", "linear", 2000.0, 1800.0),))
PAGE_KEYS = [["Enter", "confirm and next"], ["J", "next case"]]


def opened(show: Show, **changes) -> Page:
    page = ready(show(FILM, keys=PAGE_KEYS, **changes))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    return page


def give(page: Page, action: str, key: str) -> str:
    """What is said about giving `action` that key."""
    page.locator(f".key[data-action={action}]").click()
    page.keyboard.press(key)
    return page.locator(".keymap [role=status]").inner_text()


def test_a_key_can_be_changed_and_stays_changed_for_that_reader(show: Show) -> None:
    page = opened(show)
    assert give(page, "length", "q") == "Length is now Q."
    page.keyboard.press("Escape")
    page.keyboard.press("q")
    expect(page.get_by_role("button", name="Length (Q)")).to_have_attribute("aria-pressed", "true")
    page = ready(show(FILM, keys=PAGE_KEYS))
    expect(page.get_by_role("button", name="Length (Q)")).to_be_visible()
    page = ready(show(FILM, keys=PAGE_KEYS, user="somebody else"))
    expect(page.get_by_role("button", name="Length (M)")).to_be_visible()
    page = opened(show)
    page.get_by_role("button", name="As they came").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Length (M)")).to_be_visible()


def test_keys_that_are_taken_are_refused_with_the_reason(show: Show) -> None:
    page = opened(show)
    assert give(page, "length", "j") == "J belongs to the page: next case."
    assert give(page, "length", "Shift+J") == "J belongs to the page: next case."
    assert give(page, "length", "w") == "W is Window. Give that another key first."
    assert give(page, "length", "3") == "Digits name the reason of a rejection."
    assert give(page, "length", "Enter") == "Enter has a meaning of its own."
    assert give(page, "length", "Escape") == "Length keeps its key."
    assert page.evaluate("() => localStorage.length") == 0


def test_a_key_that_the_page_needs_is_the_pages(show: Show) -> None:
    page = ready(show(FILM, keys=[["M", "something of the page"]]))
    expect(page.get_by_role("button", name="Length", exact=True)).to_be_visible()  # it has lost its key, not its use
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Length", exact=True)).to_have_attribute("aria-pressed", "false")


def test_while_the_map_is_open_the_pages_keys_wait(show: Show) -> None:
    page = ready(show(FILM, keys=PAGE_KEYS))
    page.evaluate("() => { window.heard = []; addEventListener('keydown', event => heard.push(event.key), true); }")
    page.keyboard.press("?")
    page.keyboard.press("j")
    page.keyboard.press("i")
    assert page.evaluate("() => window.heard") == []
    assert page.evaluate("() => 'keysTaken' in document.documentElement.dataset")
    page.keyboard.press("Escape")
    assert not page.evaluate("() => 'keysTaken' in document.documentElement.dataset")
    page.keyboard.press("j")
    assert page.evaluate("() => window.heard") == ["j"]
    assert attribute(page, "inverted") == "false"


def test_the_toolbar_is_one_stop_and_arrows_go_along_it(show: Show) -> None:
    page = ready(show(FILM))
    page.locator(".stage").focus()
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.get_attribute("data-action") == "pan"
    page.keyboard.press("ArrowRight")
    assert focused.get_attribute("data-action") == "loupe"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    drawn(page)
    assert page.locator(".stage").get_attribute("data-tool") == "window"
    for button in page.locator(".bar button:visible").all():
        assert button.get_attribute("aria-label"), "a button without a name"


def test_a_lost_connection_is_said_and_mended_by_itself(show: Show) -> None:
    page = ready(show(FILM))
    lost = True

    def answer(route: Route) -> None:
        route.abort("connectionrefused") if lost else route.fulfill(body=stored(FILM))

    page.route(f"{HOST}/later", answer)
    page.route(f"{HOST}/later?2", answer)
    page.evaluate("data => window.mount(data)", data_of(FILM, url="/later?2", image=2))
    page.evaluate("data => window.mount(data)", data_of(FILM, url="/later", image=3))
    expect(page.locator(".message")).to_contain_text("The server does not answer. Trying again in")
    expect(page.locator(".viewer")).to_have_attribute("data-state", "error")
    assert page.evaluate("() => Object.keys(document.documentElement.dataset)") == []  # it may come yet
    lost = False
    ready(page)
    assert attribute(page, "image") == "3"


def test_trying_again_by_key_and_by_hand(show: Show) -> None:
    page = show(FILM, url="/gone")
    expect(page.locator(".viewer")).to_have_attribute("data-state", "error")
    told = "() => ({ ...document.documentElement.dataset })"  # nobody decides about a film that is not in view
    assert page.evaluate(told) == {"filmGone": "1"}
    page.route(f"{HOST}/gone", lambda route: route.fulfill(status=410, json={"error": {"message": "it was deleted"}}))
    page.keyboard.press("r")
    expect(page.locator(".message")).to_contain_text("it was deleted")
    page.route(f"{HOST}/gone", lambda route: route.fulfill(body=stored(FILM)))
    page.get_by_role("button", name="Try again").click()
    ready(page)
    assert page.evaluate(told) == {"filmReady": "1"}


def test_no_page_takes_a_key_that_the_film_comes_with() -> None:
    ui = Path(viewer.__file__).parents[2]
    tools = set(re.findall(r'key: "(?:Shift\+)?(.)"', (ui / "components/viewer/keys.js").read_text()))
    assert {"W", "T"} <= tools
    for name in ("review", "adjudication"):
        tree = ast.parse((ui / f"pages/{name}.py").read_text())
        [keys] = [one.value for one in tree.body if isinstance(one, ast.Assign) and one.targets[0].id == "KEYS"]
        assert tools.isdisjoint({key for key, _ in ast.literal_eval(keys)}), name
