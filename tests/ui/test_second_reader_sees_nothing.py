"""A second reader's pages hold no trace of the first read: not in the HTML, not in a websocket frame, not in an answer
of the API. What they are sent after it equals what they were sent before it."""

from __future__ import annotations

import json
from collections.abc import Callable
from difflib import unified_diff
from typing import Any

import pytest
from playwright.sync_api import Page, Response, WebSocket, expect
from sqlalchemy.orm import Session

from db.models import Role, Verdict
from engine.findings.answers import Task, bone_age_answer, rop_answer
from engine.services import blind_reading, claims, handover, quality_rules, review
from engine.services.accounts import Actor, demo_admin, demo_reader, demo_second_reader
from engine.services.quality_rules import Rule
from engine.services.review import Decision
from tests.ui.conftest import PATIENCE_MS
from tests.ui.keys import keys_are_bound
from tests.workstation import AddCase

FIRST = Actor("erste-leserin", "Erste Leserin", Role.READER)
COMMENT, NOTE = "ossification-runs-ahead", "think-of-precocious-puberty"
QUALITY = "limited"
FIRST_READ = bone_age_answer(173)  # the read says 110
FIRST_EYE = rop_answer("I", "3", "plus")  # the read says II, 1, none, and is not urgent
NAMES = (FIRST.username, FIRST.display_name)  # in no answer of the API; on a page only in the list of all readers
TRACES = (
    f"{FIRST.display_name} corrected",
    COMMENT,
    NOTE,
    "14 y 5 m",
    "173 months",
    '"bone_age_months": 173',
    '"bone_age_months":173',
    "zone I, stage 3",
    "corrected to",
    "corrected:",
    "type 1",
)


class Sent:
    """Everything that a page is sent, as text."""

    def __init__(self, page: Page) -> None:
        self.frames: list[str] = []
        self.answers: list[str] = []
        page.on("websocket", self._listen)
        page.on("response", self._note)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda payload: self.frames.append(_text(payload)))

    def _note(self, response: Response) -> None:
        if "/api/" in response.url and "/pixels" not in response.url:
            self.answers.append(response.text())

    def traces(self) -> set[str]:
        in_frames = {trace for text in self.frames for trace in TRACES if trace in text}
        return in_frames | {trace for text in self.answers for trace in (*TRACES, *NAMES) if trace in text}


def settled(page: Page) -> str:
    """The page's text once it has stopped changing."""
    texts: list[str] = []
    while len(texts) < 4 or len(set(texts[-4:])) > 1:
        page.wait_for_timeout(500)
        texts.append(page.inner_text("[data-testid='stMain']"))
    return texts[-1]


def _difference(name: str, before: Any, after: Any) -> list[str]:
    lines = (json.dumps(one, indent=0) if not isinstance(one, str) else one for one in (before, after))
    return [f"{name}: {line}" for line in unified_diff(*(one.splitlines() for one in lines), n=0, lineterm="")]


def _text(payload: str | bytes) -> str:
    return payload if isinstance(payload, str) else payload.decode("utf-8", errors="replace")


def look_around(server: str, page: Page, user: Actor, study_ids: list[int]) -> dict[str, Any]:
    """Everything a reader can look at, by page and by API, as it reads."""
    page.set_default_navigation_timeout(3 * PATIENCE_MS)
    page.goto(f"{server}/demo/work-as/{user.username}")
    expect(page.get_by_role("button", name=user.display_name)).to_be_visible()
    seen: dict[str, Any] = {}
    for name in ("To review", "Reviewed", "All"):
        page.get_by_role("radio", name=name).click()
        expect(page.get_by_role("radio", name=name)).to_be_checked()
        expect(page.locator("[data-stale='true']")).to_have_count(0)
        seen[f"worklist, {name}"] = settled(page)
    for study_id in study_ids:
        page.goto(f"{server}/review?study={study_id}")
        expect(page.locator(".viewer")).to_have_attribute("data-state", "ready", timeout=DRAWN_WITHIN_MS)
        expect(page.get_by_role("button", name="Undo")).to_be_visible()
        seen[f"review {study_id}"] = settled(page)
        seen[f"fields {study_id}"] = page.eval_on_selector_all("input", "all => all.map(one => one.value)")
        seen[f"html {study_id}"] = [trace for trace in TRACES if trace in page.content()]
    paths = [f"studies/{study_id}" for study_id in study_ids]
    for sort in ("urgency", "learning", "acquired", "status"):
        paths += [f"queue?sort={sort}", f"queue?sort={sort}&descending=true"]
    paths += [f"queue?status={status}" for status in ("awaiting_review", "reviewed", "rejected")]
    paths += [f"queue?urgency={level}" for level in ("none", "soon", "urgent")]
    for path in paths:
        seen[path] = json.loads(page.evaluate("url => fetch(url).then(one => one.text())", f"/api/radiology/{path}"))
    return seen


pytestmark = pytest.mark.slow  # every look takes 15 s; test_second_read.py has the same of the services, quickly
DRAWN_WITHIN_MS = 3 * PATIENCE_MS  # a film, on a machine that does much besides


@pytest.fixture
def first_read(session: Session) -> Callable[[Any, dict], None]:
    def decide(case: Any, answer: dict) -> None:
        session.rollback()
        claims.release(session, demo_second_reader(), case.study_id)  # who has looked at it before
        image = review.load_study(session, FIRST, case.study_id).images[0]
        decision = Decision(
            Verdict.CORRECTED,
            answer,
            comment=COMMENT,
            details={"quality": QUALITY},
            prediction_id=image.read.prediction_id,
            seconds=12.5,
        )
        review.record_review(session, FIRST, case.image_id, decision)
        handover.leave_note(session, FIRST, case.study_id, NOTE)

    return decide


def test_a_second_readers_page_holds_no_trace_of_the_first_read(
    server: str, page: Page, add_case: AddCase, session: Session, first_read: Callable
) -> None:
    for task in Task:
        quality_rules.set_rule(session, demo_admin(), Rule(task, second_read_share=1.0))
    hand = add_case(Task.BONE_AGE, bone_age_answer(110))
    eye = add_case(Task.ROP, rop_answer("II", "1", "none"))
    add_case(Task.ROP, rop_answer("II", "2", "none"))
    studies = [hand.study_id, eye.study_id]

    before = look_around(server, page, demo_second_reader(), studies)
    first_read(hand, FIRST_READ)
    first_read(eye, FIRST_EYE)
    sent = Sent(page)
    after = look_around(server, page, demo_second_reader(), studies)

    assert sent.frames and sent.answers and sent.traces() == set()
    assert [line for name in before for line in _difference(name, before[name], after[name])] == []
    assert [after[f"html {study_id}"] for study_id in studies] == [[], []]

    # the same look finds them where they may be seen
    everything = Sent(page)
    look_around(server, page, demo_admin(), studies)
    found = everything.traces()
    assert {COMMENT, NOTE, "14 y 5 m", "corrected to", '"bone_age_months":173', FIRST.display_name, TRACES[0]} <= found


def test_a_second_reader_decides_from_the_keyboard_and_sees_their_own_alone(
    server: str, page: Page, add_case: AddCase, session: Session, first_read: Callable
) -> None:
    quality_rules.set_rule(session, demo_admin(), Rule(Task.BONE_AGE, second_read_share=1.0, blind_first=True))
    hand = add_case(Task.BONE_AGE, bone_age_answer(110))
    blind_reading.give_blind_answer(session, FIRST, hand.image_id, bone_age_answer(171))
    first_read(hand, FIRST_READ)

    page.goto(f"{server}/demo/work-as/{demo_second_reader().username}")
    expect(page.get_by_role("button", name="Demo second reader")).to_be_visible()
    sent = Sent(page)
    page.goto(f"{server}/review?study={hand.study_id}")
    expect(page.locator(".viewer")).to_have_attribute("data-state", "ready", timeout=DRAWN_WITHIN_MS)
    expect(page.get_by_text("Shown after your answer")).to_be_visible()
    assert "9 y 2 m" not in page.inner_text("[data-testid='stMain']")  # nor is the read shown yet
    keys_are_bound(page, "C")
    page.keyboard.press("c")
    expect(page.get_by_label("Years")).to_be_focused()
    page.keyboard.type("10")
    page.keyboard.press("Tab")
    page.get_by_label("Months").fill("0")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Answer 10 y 0 m and see the read")).to_be_visible()
    page.locator(".viewer").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("You answered 10 y 0 m before you saw the read.")).to_be_visible()
    expect(page.get_by_role("button", name="Take the read, 9 y 2 m")).to_be_visible()
    page.keyboard.press("y")
    expect(page.get_by_role("button", name="Confirm and next")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("[data-testid='stMain']")).to_contain_text("Nothing matches")

    page.goto(f"{server}/review?study={hand.study_id}")
    expect(page.get_by_text("Demo second reader confirmed 9 y 2 m")).to_be_visible()
    assert sent.traces() == set()
    session.rollback()
    image = review.load_study(session, demo_admin(), hand.study_id).images[0]
    assert image.decision.answer == FIRST_READ  # the case is as the first reader left it
    assert demo_reader().username not in [one.reader for one in image.reviews]
