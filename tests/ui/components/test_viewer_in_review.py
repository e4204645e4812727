"""The viewer on the review page: marks are stored with the decision, and earlier films of the child are at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

import ui.components.viewer as viewer
from db.models import Image, RejectReason
from engine.findings.answers import Task
from engine.imaging import film_store
from engine.services import images, review
from engine.services.accounts import demo_reader
from engine.services.prior_films import prior_films
from tests.ui.keys import keys_are_bound
from tests.workstation import AddCase
from ui.components.viewer.beside import films_beside

SAME_CHILD = {"PatientID": "SIBLING1", "PatientBirthDate": "20160310"}


def test_a_finding_is_stored_with_the_decision_and_seen_again(
    server: str, page: Page, add_case: AddCase, session: Session
) -> None:
    earlier = add_case(Task.BONE_AGE, StudyDate="20240710", AcquisitionDate="20240710", **SAME_CHILD)
    case = add_case(Task.BONE_AGE, **SAME_CHILD)
    page.goto(f"{server}/review?study={case.study_id}")
    film = page.locator("section.viewer")
    expect(film).to_have_attribute("data-state", "ready")

    page.keyboard.press("o")
    beside = page.locator(".pane").nth(1)
    expect(beside).to_have_attribute("data-image", str(earlier.image_id))
    expect(beside).to_have_attribute("data-state", "ready")
    expect(beside).to_contain_text("10 Jul 2024, 12 months earlier, 8 y 4 m, left")
    page.keyboard.press("o")

    expect(page.locator(f".st-key-confirm_{case.image_id} button")).to_be_enabled()
    keys_are_bound(page, "Enter")
    page.keyboard.press("b")
    box = page.locator(".stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 80, steps=3)
    page.mouse.up()
    expect(page.locator(".label")).to_have_count(1)
    page.keyboard.press("Enter")  # at once: what was marked is not lost on the way
    expect(film).not_to_have_attribute("data-image", str(case.image_id))

    session.rollback()
    [image] = review.load_study(session, demo_reader(), case.study_id).images
    [region] = image.decision.details["regions"]
    assert 0 < region["x0"] < region["x1"] <= image.cols
    page.goto(f"{server}/review?study={case.study_id}")
    expect(page.locator("svg .rectangle")).to_have_count(1)


@pytest.mark.slow
def test_a_case_whose_pixels_are_gone_can_be_rejected_from_the_keyboard(
    server: str, page: Page, add_case: AddCase, session: Session, data_dir: Path
) -> None:
    case = add_case()
    [pixels] = (data_dir / "films").rglob("pixels.gz")
    pixels.unlink()
    page.goto(f"{server}/review?study={case.study_id}")
    expect(page.locator(".message")).to_contain_text("have been removed from the data folder")
    expect(page.locator(f".st-key-confirm_{case.image_id} button")).to_be_visible()
    keys_are_bound(page, "X")
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="Not readable")).to_be_visible()
    keys_are_bound(page, "5")
    with page.expect_event("framenavigated"):  # to the worklist: nothing is left to review
        page.keyboard.press("5")
    session.rollback()
    [image] = review.load_study(session, demo_reader(), case.study_id).images
    assert image.decision.reject_reason is RejectReason.NOT_READABLE


def test_earlier_films_are_of_the_same_child_and_task_the_latest_first(
    add_case: AddCase, session: Session, data_dir: Path
) -> None:
    def film(day: str, task: Task = Task.BONE_AGE, **tags) -> int:
        return add_case(task, StudyDate=day, AcquisitionDate=day, **SAME_CHILD, **tags).image_id

    oldest, right, left = film("20220110"), film("20240110", ImageLaterality="R"), film("20240110")
    film("20240601", Task.FRACTURE)
    case = add_case(Task.BONE_AGE, **SAME_CHILD)
    add_case(Task.BONE_AGE, StudyDate="20230101", AcquisitionDate="20230101")  # another child
    film("20251101")  # later
    priors = prior_films(session, demo_reader(), case.image_id)
    assert [prior.image_id for prior in priors] == [left, right, oldest]
    study = review.load_study(session, demo_reader(), case.study_id)
    captions = [caption for caption, _ in films_beside(study, study.images[0], priors)]
    assert captions[2] == "10 Jan 2022, 42 months earlier, 5 y 10 m, left"
    assert prior_films(session, demo_reader(), oldest) == []

    damaged = session.get_one(Image, right).file_sha256
    (film_store.entry_folder(images.films_folder(), damaged) / "film.json").write_text("{}")
    assert [prior.image_id for prior in prior_films(session, demo_reader(), case.image_id)] == [left, oldest]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"regions": [{"x0": 1, "y0": 2, "x1": 9, "y1": 8}]}, {"regions": [{"x0": 1, "y0": 2, "x1": 9, "y1": 8}]}),
        ({"regions": [{"x0": 1, "y0": 2, "x1": 11, "y1": 8}]}, {}),  # outside the film
        ({"regions": [{"x0": 5, "y0": 2, "x1": 5, "y1": 8}]}, {}),  # empty
        ({"regions": [{"x0": True, "y0": 2, "x1": 5, "y1": 8}, "no", None]}, {}),
        ({"regions": "no", "landmarks": [1]}, {}),
        (
            {"regions": [{"x0": 0, "y0": 0, "x1": 1, "y1": 1}] * 99},
            {"regions": [{"x0": 0, "y0": 0, "x1": 1, "y1": 1}] * 30},
        ),
        (
            {"landmarks": {"disc": [7.5, 3], "fovea": [2, 3.1]}},
            {"landmarks": {"disc": [7.5, 3.0], "fovea": [2.0, 3.1]}},
        ),
        (
            {"landmarks": {"disc": [7, 3], "fovea": [2, 3], "ora": [14, 3]}},
            {"landmarks": {"disc": [7.0, 3.0], "fovea": [2.0, 3.0], "ora": [14.0, 3.0]}},
        ),
        ({"landmarks": {"disc": [7, 3], "fovea": [7, 3]}}, {}),
        ({"landmarks": {"disc": [float("nan"), 3], "fovea": [7, 3]}}, {}),
    ],
)
def test_only_marks_that_lie_on_the_film_are_kept(sent: dict, kept: dict) -> None:
    assert viewer.checked_marks(sent, rows=10, cols=10) == kept


def test_marks_of_another_image_are_not_taken_for_this_ones(
    add_case: AddCase, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = add_case()
    [image] = review.load_study(session, demo_reader(), case.study_id).images
    region = {"x0": 1, "y0": 2, "x1": 9, "y1": 8}
    state = {viewer.KEY: {"kept": {"image": image.image_id, "regions": [region]}}}
    monkeypatch.setattr(viewer.st, "session_state", state)
    assert viewer.marks_of(image) == {"regions": [region]}
    assert viewer.marks_of(replace(image, image_id=image.image_id + 1)) == {}
