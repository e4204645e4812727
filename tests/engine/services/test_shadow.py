"""engine.services.shadow: reads that only an admin sees, compared with those that readers saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import AuditEvent, ModelState, Prediction, ShadowRead, Verdict
from engine.errors import Conflict, ModelUnavailable, NotAllowed, Refused
from engine.findings.answers import Answer, Task, bone_age_answer, fracture_answer, rop_answer
from engine.services import export, lineage, reading, registry, review, shadow, worklist
from engine.services.registry import Deployed
from engine.services.review import Decision
from tests.model_folders import promote, register

from .conftest import ADMIN, READER, WORKER, grey_film, hand_tags, read_of


@pytest.fixture
def model(session: Session, data_dir: Path) -> Deployed:
    return register(session, data_dir, "new")


def state_of(session: Session, model: Deployed) -> ModelState:
    return next(row.state for row in lineage.models(session, ADMIN) if row.name == model.name)


def let_it_read(session: Session, model: Deployed, answer_of: Callable[[Task], Answer | None]) -> int:
    """The shadow reads all that is left for it; None: it gives no answer."""
    waiting = shadow.images_to_read(session, WORKER, model.model_version_id, 100)
    reads = []
    for one in waiting:
        answer = answer_of(one.image.task)
        read = read_of(one.image.task, answer, version=model.name, reason=None if answer else "SHADOW-REASON")
        reads.append(replace(read, milliseconds=1.0))
    return shadow.record_reads(session, WORKER, model.model_version_id, waiting, reads)


def test_a_shadow_starts_with_the_latest_reads_and_goes_on_with_new_ones(
    session: Session, model: Deployed, new_case, monkeypatch
) -> None:
    monkeypatch.setattr(shadow, "LOOK_BACK", 2)
    before = [new_case(Task.FRACTURE).image_id for _ in range(3)]
    shadow.start(session, ADMIN, model.model_version_id)
    later = new_case(Task.FRACTURE).image_id
    waiting = shadow.images_to_read(session, WORKER, model.model_version_id, 10)
    assert [one.image.image_id for one in waiting] == [later, before[2], before[1]]
    assert let_it_read(session, model, lambda task: fracture_answer("buckle")) == 3
    assert let_it_read(session, model, lambda task: fracture_answer("buckle")) == 0
    assert shadow.record_reads(session, WORKER, model.model_version_id, waiting[:1], [read_of(Task.FRACTURE)]) == 0


def test_a_film_that_waits_for_its_read_comes_first(session: Session, model: Deployed, new_case, arrive) -> None:
    new_case()
    shadow.start(session, ADMIN, model.model_version_id)
    waiting = arrive(session, grey_film(hand_tags(5)))
    assert shadow.images_to_read(session, WORKER, model.model_version_id, 10) == []
    reading.record_reads(session, WORKER, [waiting.image_id], [read_of(Task.BONE_AGE)], is_phantom=True)
    assert len(shadow.images_to_read(session, WORKER, model.model_version_id, 10)) == 2


def test_no_reader_ever_sees_what_a_shadow_says(session: Session, model: Deployed, new_case, tmp_path: Path) -> None:
    case = new_case(Task.BONE_AGE)
    shadow.start(session, ADMIN, model.model_version_id)
    assert let_it_read(session, model, lambda task: bone_age_answer(217)) == 1
    study = review.load_study(session, READER, case.study_id)
    image = study.images[0]
    review.record_review(
        session, READER, image.image_id, Decision(Verdict.CONFIRMED, prediction_id=image.read.prediction_id)
    )
    export.export_annotations(session, ADMIN, tmp_path / "out")
    said = [
        str(asdict(review.load_study(session, READER, case.study_id))),
        str(worklist.worklist_page(session, READER, worklist.WorklistFilter())),
        str(worklist.overview(session, READER)),
        str(lineage.models_that_read(session, READER)),
        *(path.read_text() for path in (tmp_path / "out").rglob("*.json")),
    ]
    for text in said:
        assert "217" not in text and "18 y 1 m" not in text and model.name not in text
    assert image.read.words == "9 y 2 m"
    assert session.scalar(select(func.count(Prediction.id))) == 1
    for forbidden in (
        lambda: shadow.report(session, READER, model.model_version_id),
        lambda: shadow.report(session, WORKER, model.model_version_id),
        lambda: shadow.start(session, READER, model.model_version_id),
        lambda: shadow.stop(session, READER, model.model_version_id),
        lambda: shadow.reading_along(session, READER),
        lambda: shadow.images_to_read(session, READER, model.model_version_id, 1),
        lambda: shadow.record_reads(session, READER, model.model_version_id, [], []),
    ):
        with pytest.raises(NotAllowed):
            forbidden()


def test_what_it_says_differently_is_listed_and_held_against_the_reader(
    session: Session, model: Deployed, new_case
) -> None:
    close, far = new_case(Task.BONE_AGE), new_case(Task.BONE_AGE)
    new_case(Task.FRACTURE)
    zone, no_answer = new_case(Task.ROP), new_case(Task.BONE_AGE, reason="too dark")
    image = review.load_study(session, READER, far.study_id).images[0]
    decision = Decision(Verdict.CORRECTED, bone_age_answer(128), prediction_id=image.read.prediction_id)
    review.record_review(session, READER, far.image_id, decision)
    shadow.start(session, ADMIN, model.model_version_id)
    answers = {
        close.image_id: bone_age_answer(116),  # the read said 110
        far.image_id: bone_age_answer(130),
        zone.image_id: rop_answer("I", "1", "none"),
        no_answer.image_id: bone_age_answer(60),
    }
    waiting = shadow.images_to_read(session, WORKER, model.model_version_id, 10)
    reads = [read_of(one.image.task, answers.get(one.image.image_id)) for one in waiting]
    shadow.record_reads(session, WORKER, model.model_version_id, waiting, reads)

    report = shadow.report(session, ADMIN, model.model_version_id)
    assert [one.image_id for one in report.disagreements] == [far.image_id, no_answer.image_id, zone.image_id]
    widest, unread, other_zone = report.disagreements
    assert (widest.months_apart, widest.in_use_words, widest.shadow_words) == (20, "9 y 2 m", "10 y 10 m")
    assert (widest.decided_words, widest.nearer) == ("10 y 8 m", "shadow")
    assert unread.in_use_words == "no read: too dark" and unread.nearer is None
    assert other_zone.shadow_words.startswith("zone I,") and other_zone.decided_words is None
    counts = {one.task: (one.compared, one.disagree, one.decided, one.shadow_nearer) for one in report.tasks}
    assert counts == {Task.BONE_AGE: (3, 2, 1, 1), Task.ROP: (1, 1, 0, 0), Task.FRACTURE: (1, 0, 0, 0)}
    assert report.tasks[0].mean_months_apart == pytest.approx((6 + 20) / 2)
    assert report.still_to_read == 0


def test_one_at_a_time_and_never_the_model_in_use(session: Session, model: Deployed, data_dir: Path) -> None:
    other = register(session, data_dir, "other")
    shadow.start(session, ADMIN, model.model_version_id)
    shadow.start(session, ADMIN, model.model_version_id)  # a second click
    with pytest.raises(Conflict, match="stop it first"):
        shadow.start(session, ADMIN, other.model_version_id)
    assert shadow.reading_along(session, WORKER) == model
    shadow.stop(session, ADMIN, model.model_version_id)
    assert shadow.reading_along(session, WORKER) is None
    assert state_of(session, model) is ModelState.CANDIDATE
    promote(session, data_dir, model)
    with pytest.raises(Refused, match="alongside itself"):
        shadow.start(session, ADMIN, model.model_version_id)
    promote(session, data_dir, other)
    shadow.start(session, ADMIN, model.model_version_id)
    shadow.stop(session, ADMIN, model.model_version_id)
    assert state_of(session, model) is ModelState.RETIRED
    actions = session.scalars(
        select(AuditEvent.action).where(AuditEvent.action.contains("shadow")).order_by(AuditEvent.id)
    ).all()
    assert actions == ["model.shadow_started", "model.shadow_stopped"] * 2


def test_promoting_the_shadow_ends_its_reading_alongside(session: Session, model: Deployed, data_dir: Path) -> None:
    shadow.start(session, ADMIN, model.model_version_id)
    promote(session, data_dir, model)
    assert shadow.reading_along(session, WORKER) is None
    assert registry.in_use(session, WORKER) == model


def test_a_changed_folder_does_not_become_a_shadow(session: Session, model: Deployed) -> None:
    (model.folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelUnavailable, match="changed or damaged"):
        shadow.start(session, ADMIN, model.model_version_id)


def test_an_answer_outside_the_set_is_not_stored(session: Session, model: Deployed, new_case) -> None:
    new_case()
    shadow.start(session, ADMIN, model.model_version_id)
    waiting = shadow.images_to_read(session, WORKER, model.model_version_id, 1)
    with pytest.raises(Refused):
        shadow.record_reads(
            session, WORKER, model.model_version_id, waiting, [read_of(Task.BONE_AGE, bone_age_answer(400))]
        )
    assert session.scalar(select(func.count(ShadowRead.id))) == 0
