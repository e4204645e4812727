"""The web process as it is started: its own port, its own data folder, a real browser."""

from __future__ import annotations

import urllib.error
import urllib.request

from playwright.sync_api import Locator, Page, expect
from sqlalchemy.orm import Session

from engine.findings.answers import Task
from engine.services import review
from engine.services.accounts import demo_reader
from tests.ui.keys import keys_are_bound, page_rests
from tests.workstation import AddCase


def answer_to(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, dict[str, str]]:
    request = urllib.request.Request(url, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, {name.lower(): value for name, value in response.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}


def confirm_button(page: Page, image_id: int) -> Locator:
    """It is there once the panel, too, has gone over to the image."""
    return page.locator(f".st-key-confirm_{image_id} button")


def test_pages_and_api_carry_the_security_headers_and_strangers_are_refused(server: str) -> None:
    for path in ("/", "/review", "/api/radiology/queue", "/api/docs"):
        status, headers = answer_to(server + path)
        assert status == 200, path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe-eval" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    assert answer_to(server + "/api/radiology/queue", {"Host": "evil.example"})[0] == 403
    assert answer_to(server + "/api/radiology/studies", {"Origin": "http://evil.example"}, "POST")[0] == 403


def test_the_worklists_own_address_leads_to_it(server: str) -> None:
    with urllib.request.urlopen(f"{server}/worklist?embed=true") as answer:
        assert answer.url == f"{server}/?embed=true"


def test_a_reader_goes_from_the_list_through_cases_by_keyboard(
    server: str, page: Page, add_case: AddCase, session: Session
) -> None:
    first = add_case(Task.BONE_AGE)
    second = add_case(Task.FRACTURE)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)

    # a link to a case, opened first, has the whole frame
    page.goto(f"{server}/review?study={second.study_id}")
    film = page.locator(".viewer")
    expect(film).to_have_attribute("data-state", "ready")
    expect(page.get_by_role("link", name="Worklist")).to_be_visible()

    page.goto(server)
    row = page.locator(f"tr[data-study='{first.study_id}']")
    expect(row).to_be_visible(timeout=20_000)
    row.click()
    expect(film).to_have_attribute("data-image", str(first.image_id))
    expect(film).to_have_attribute("data-state", "ready")
    assert f"study={first.study_id}" in page.url

    opened = film.get_attribute("data-window")
    page.mouse.move(400, 400)
    page.mouse.down()
    page.mouse.move(450, 430, steps=3)
    page.mouse.up()
    expect(film).not_to_have_attribute("data-window", opened)

    # C, the years, Tab, the months, one Enter
    expect(confirm_button(page, first.image_id)).to_be_enabled()
    keys_are_bound(page, "C")
    page.keyboard.press("c")
    expect(page.get_by_label("Years")).to_be_focused()
    page.keyboard.type("10")
    page.keyboard.press("Tab")
    page.get_by_label("Months").fill("4")
    page.keyboard.press("Enter")
    expect(film).to_have_attribute("data-image", str(second.image_id))
    image = review.load_study(session, demo_reader(), first.study_id).images[0]
    assert image.decision.answer == {"task": "bone_age", "bone_age_months": 124}

    session.rollback()
    expect(confirm_button(page, second.image_id)).to_be_enabled()
    expect(page.locator(".st-key-undo button")).to_be_enabled()  # it follows the buttons that decide
    keys_are_bound(page, "U")
    page.keyboard.press("u")
    expect(film).to_have_attribute("data-image", str(first.image_id))
    expect(page.get_by_text("Demo reader took the decision back")).to_be_visible()
    assert problems == []


def test_enter_pressed_twice_does_not_decide_a_case_nobody_has_seen(
    server: str, page: Page, add_case: AddCase, session: Session
) -> None:
    cases = [add_case(Task.FRACTURE) for _ in range(3)]
    page.route(f"**/pixels?image={cases[1].image_id}", lambda route: None)  # the next film never arrives
    page.goto(f"{server}/review?study={cases[0].study_id}")
    film = page.locator(".viewer")
    expect(film).to_have_attribute("data-state", "ready")
    expect(confirm_button(page, cases[0].image_id)).to_be_enabled()
    keys_are_bound(page, "Enter")
    page_rests(page)
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(film).to_have_attribute("data-image", str(cases[1].image_id))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Enter came before the film was in view")).to_be_visible()
    page.wait_for_timeout(1000)
    decided = [review.load_study(session, demo_reader(), case.study_id).images[0].decision for case in cases]
    assert [decision is not None for decision in decided] == [True, False, False]
