from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy.orm import Session

from db.models import RetrainState, RetrainStep, Verdict
from engine.findings.answers import bone_age_answer
from engine.services import registry, retrain, review, training_set
from engine.services.accounts import demo_admin, demo_reader
from engine.services.review import Decision
from tests.fake_retraining import fake_retraining
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import AddCase, film_pixels

ADMIN = demo_admin()


@pytest.fixture
def awaiting(session: Session, database_url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """A run whose candidate the gate has let through."""
    return done(session, database_url, monkeypatch)


def done(session: Session, database_url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    preview = SimpleNamespace(enough=True, why_not=None, estimate_minutes=6.0)
    with monkeypatch.context() as patched:
        patched.setattr(training_set, "preview", lambda session, actor: preview)
        run_id = retrain.start(session, ADMIN)
    retraining = fake_retraining(database_url, threading.Event())
    for step in RetrainStep:
        retraining.perform(run_id, step)
    retraining.tidy(run_id)
    return run_id


def film(number: int) -> np.ndarray:
    """No two alike, as the same picture would count once."""
    return np.roll(film_pixels(), number, axis=1)


def correct(session: Session, study_id: int, months: int) -> None:
    image = review.load_study(session, demo_reader(), study_id).images[0]
    decision = Decision(Verdict.CORRECTED, bone_age_answer(months), prediction_id=image.read.prediction_id)
    review.record_review(session, demo_reader(), image.image_id, decision)


def test_without_corrections_it_says_what_would_fill_it(open_page: OpenPage, add_case: AddCase) -> None:
    add_case()
    said = everything_said(open_page("retrain"))
    assert "No corrections yet" in said
    assert "Correct cases on the review page" in said


def test_too_few_corrections_are_counted_and_the_button_waits(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    for months in (60, 90):
        correct(session, add_case(pixels=film(months)).study_id, months)
    at = open_page("retrain")
    said = everything_said(at)
    assert "At least 30 of one task are needed" in said
    assert "No worker is running, so a run would wait. Start it with: pediscreen worker" in said
    assert at.button(key="retrain_start").disabled


def test_two_tabs_that_press_the_button_start_one_run(
    open_page: OpenPage, add_case: AddCase, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for months in (60, 90):
        correct(session, add_case(pixels=film(months)).study_id, months)
    real = training_set.preview

    def enough(session, actor):
        found = real(session, actor)
        return training_set.TrainingSetPreview(**{**vars(found), "enough": True, "why_not": None})

    monkeypatch.setattr(training_set, "preview", enough)
    tabs = [open_page("retrain"), open_page("retrain")]
    for tab in tabs:
        tab.button(key="retrain_start").click().run()
        assert "No worker is running, so nothing moves" in everything_said(tab)
    assert [run.state for run in retrain.history(session, ADMIN)] == [RetrainState.QUEUED]
    tabs[1].button(key="retrain_cancel").click().run()
    assert "Cancelled by Demo admin" in everything_said(tabs[1])


def test_the_verdict_is_signed_with_a_comment(open_page: OpenPage, session: Session, awaiting: int) -> None:
    at = open_page("retrain")
    said = everything_said(at)
    assert "Let through" in said
    assert "Better: bone age, locked test" in said
    assert "Cases that got worse" in said

    sign = next(button for button in at.button if button.label.startswith("Sign and put"))
    sign.click().run()
    assert "A comment is part of the signature" in everything_said(at)
    assert registry.in_use(session, ADMIN) is None

    at.text_area(key="retrain_comment").input("Fewer errors at site B")
    next(button for button in at.button if button.label.startswith("Sign and put")).click().run()
    session.rollback()
    candidate = retrain.run(session, ADMIN, awaiting).candidate
    assert registry.in_use(session, ADMIN).name == candidate
    said = everything_said(at)
    assert "promoted" in said and f"In use: {candidate}" in said


def test_a_declined_candidate_is_kept_and_not_used(open_page: OpenPage, session: Session, awaiting: int) -> None:
    at = open_page("retrain")
    at.text_area(key="retrain_comment").input("Two cases got worse")
    next(button for button in at.button if button.label == "Decline").click().run()
    assert "Declined by Demo admin: Two cases got worse" in everything_said(at)
    session.rollback()
    assert registry.in_use(session, ADMIN) is None


@pytest.mark.parametrize(
    ("step", "crash", "sentence"),
    [
        ("train", "disk_full", "The disk is full: free some space and start again."),
        ("evaluate", "killed", "The machine ran out of memory, or somebody ended the process."),
    ],
)
def test_a_run_that_failed_says_why(
    open_page: OpenPage,
    add_case: AddCase,
    session: Session,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    crash: str,
    sentence: str,
) -> None:
    add_case()
    monkeypatch.setenv("FAKE_FAIL", step)
    monkeypatch.setenv("FAKE_CRASH", crash)
    run_id = done(session, database_url, monkeypatch)
    said = everything_said(open_page("retrain"))
    assert f"Run {run_id}, failed: {sentence}" in said
    assert "The model in use was not touched." in said


def test_a_run_that_the_gate_held_says_why(
    open_page: OpenPage, add_case: AddCase, session: Session, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_case()
    monkeypatch.setenv("FAKE_VERDICT", "worse")
    run_id = done(session, database_url, monkeypatch)
    said = everything_said(open_page("retrain"))
    assert f"Run {run_id}, held: The gate held the new model back. Worse: bone age" in said


def test_a_candidate_whose_files_were_changed_is_said_to_be_so(
    open_page: OpenPage, session: Session, awaiting: int, data_dir: Path
) -> None:
    (weights,) = (data_dir / "models").rglob("model.safetensors")
    weights.write_bytes(b"something else")
    at = open_page("retrain")
    at.text_area(key="retrain_comment").input("Fewer errors at site B")
    next(button for button in at.button if button.label.startswith("Sign and put")).click().run()
    assert "changed or damaged" in everything_said(at)
    session.rollback()
    seen = retrain.run(session, ADMIN, awaiting)
    assert seen.state is RetrainState.FAILED and seen.message.endswith("The model in use was not touched.")
    assert registry.in_use(session, ADMIN) is None
