"""A reader opens a study, decides about each image, takes a decision back, supplies what the file did not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import (
    BlindRead,
    Image,
    Laterality,
    Patient,
    Prediction,
    RejectReason,
    Review,
    Role,
    Sex,
    Study,
    TaskSource,
    UserAccount,
    Verdict,
)
from db.repositories import studies as repository
from db.repositories.reads import latest_predictions
from db.session import writing
from engine.errors import AdmissionRefused, AnswerRefused, Conflict, NotAllowed, NotFound
from engine.findings import additions
from engine.findings.answers import Answer, Task, check_answer
from engine.services import audit, blind_reading, case_state, claims, gold_cases, second_read, study_view
from engine.services.accounts import READERS, Actor, account_of, require
from engine.services.blind_reading import KnownToReader, Shown
from engine.services.study_view import ImageView, ReadView, ReviewView, StudyView

__all__ = [
    "Decision",
    "ImageView",
    "ReadView",
    "ReviewView",
    "StudyView",
    "load_study",
    "record_review",
    "request_read",
    "set_facts",
    "undo_review",
]


@dataclass(frozen=True)
class Decision:
    """`answer` goes with `corrected` only; `reject_reason` with `rejected` only, and "other" needs a comment.
    `details` is kept as JSON: what the reader added to the answer (engine.findings.additions, checked), marks on the
    film, and more; {"no_burned_in_text": true} says that the reader looked and found no text that identifies the
    child. `seconds` from image shown to decision."""

    verdict: Verdict
    answer: dict[str, Any] | None = None
    reject_reason: RejectReason | None = None
    comment: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    prediction_id: int | None = None
    seen_review_id: int | None = None
    seconds: float | None = None


def load_study(session: Session, actor: Actor, study_id: int) -> StudyView:
    """Everything the review page shows. The view is recorded, and that commits. Raises NotFound, NotAllowed."""
    require(actor, *READERS)
    study = repository.study_with_images(session, study_id)
    if study is None:
        raise NotFound(f"there is no study {study_id}")
    view = study_view.study_view(session, actor, study)
    audit.record_view(session, actor, f"study:{study_id}")
    return view


def record_review(session: Session, actor: Actor, image_id: int, decision: Decision) -> int:
    """Add a decision and return its id. Commits.

    A correction that equals the read is stored as confirmed. Sending the same decision twice stores it once. What a
    blind reader decides is kept beside the case (engine.services.second_read).
    It ends the reader's claim on the case, with its last undecided image.
    Raises Conflict while another reader has the case open, or when there is a review or a read the reader has not
    seen, AnswerRefused for an answer outside the closed set, an addition that contradicts it, while a needed fact is
    missing, or before the answer that blind-first asks for; NotFound, NotAllowed."""
    require(actor, *READERS)
    with writing(session):
        image, study = _image_and_study(session, image_id)
        reader = account_of(session, actor)
        prediction = latest_predictions(session, [image_id]).get(image_id)
        known = _known(session, actor, image, study)
        line, shown = known.lines.get(image_id), known.decisions.get(image_id, ())
        latest = shown[0] if shown else None
        if image_id in known.hidden_reads and decision.verdict != Verdict.REJECTED:
            raise AnswerRefused(
                "blind_answer_missing", "this examination is read blind first: give your own answer, then decide"
            )
        verdict, answer = _checked(decision, image, study, prediction)
        details = additions.checked_details(answer, decision.details)

        if latest is not None and latest.id != decision.seen_review_id:
            if _is_same(shown, reader, verdict, answer, details, decision):
                return latest.id
            raise Conflict("this image has been decided in the meantime: look at that decision, then decide again")
        if latest is None and decision.seen_review_id is not None:
            raise Conflict(f"the image has no review {decision.seen_review_id}: open the case again")
        claims.refuse_if_taken(session, study.id, reader)
        given = blind_reading.blind_answers_given(session, actor, [image_id]).get(image_id)
        columns = {
            "image_fk": image_id,
            "prediction_fk": prediction.id if prediction else None,
            "reader_fk": reader.id,
            "verdict": verdict,
            "answer": answer,
            "reject_reason": decision.reject_reason,
            "comment": _comment(decision),
            "details": details,
            "seconds": decision.seconds,
            "blind_answer_fk": given.id if given else None,
        }
        if line is not None:
            recorded: Shown = BlindRead(blind_case_fk=line.case.id, **columns)
            second_read.record_blind_read(session, line.case, recorded, reader)
            detail = {"blind_read": recorded.id, "verdict": verdict.value}
            audit.record(session, actor, "blind_read.recorded", f"image:{image_id}", detail | audit.fixed(recorded))
        else:
            revision = latest.revision + 1 if latest else 1
            recorded = Review(revision=revision, supersedes_id=latest.id if latest else None, **columns)
            _add(session, recorded, study)
            detail = {"review": recorded.id, "verdict": verdict.value, "supersedes": recorded.supersedes_id}
            audit.record(session, actor, "review.recorded", f"image:{image_id}", detail | audit.fixed(recorded))
            is_first = case_state.in_force(latest) is None
            second_read.follow_up(session, study, image, recorded, reader, is_first=is_first)
        claims.decided(session, image_id, study, reader)
        gold_cases.deal(session, study.task, reader)
        return recorded.id


def _known(session: Session, actor: Actor, image: Image, study: Study) -> KnownToReader:
    """What the actor may know of the study. Raises Conflict where the image is not theirs to decide."""
    known = blind_reading.known_to(session, actor, [study])
    withheld = known.withheld(image.id)
    if withheld is not None:
        raise Conflict(withheld)
    return known


def _checked(
    decision: Decision, image: Image, study: Study, prediction: Prediction | None
) -> tuple[Verdict, Answer | None]:
    """The verdict and the answer to store. Raises AnswerRefused, Conflict."""
    additions.check_length(_comment(decision), decision.details)
    if decision.verdict == Verdict.WITHDRAWN:
        raise AnswerRefused("not_a_decision", "a decision is withdrawn by undo_review")
    if (decision.verdict == Verdict.REJECTED) != (decision.reject_reason is not None):
        raise AnswerRefused("reject_reason", "a rejection needs a reason, and only a rejection has one")
    if decision.verdict == Verdict.REJECTED:
        if decision.reject_reason == RejectReason.OTHER and not _comment(decision):
            raise AnswerRefused("comment_missing", 'the reason "other" needs a comment')
        return Verdict.REJECTED, None

    missing = case_state.missing_facts(image, study, study.patient)
    if missing:
        raise AnswerRefused(f"{missing[0]}_missing", f"{' and '.join(missing)} unknown: enter it on the case first")
    if decision.prediction_id is not None and (prediction is None or prediction.id != decision.prediction_id):
        raise Conflict("the image has been read again in the meantime: look at the new read, then decide")
    if decision.verdict == Verdict.CONFIRMED:
        if prediction is None or prediction.id != decision.prediction_id:
            raise AnswerRefused("nothing_to_confirm", "there is no read to confirm: give an answer or reject the image")
        if prediction.answer is None:
            raise AnswerRefused("abstained", "the model gave no read: give an answer or reject the image")
        return Verdict.CONFIRMED, check_answer(prediction.answer)
    answer = check_answer(decision.answer or {})
    if answer["task"] != study.task:
        raise AnswerRefused("wrong_task", f"the case is read for {study.task}, the answer is for {answer['task']}")
    if prediction is not None and answer == prediction.answer:
        return Verdict.CONFIRMED, answer
    return Verdict.CORRECTED, answer


def _is_same(
    shown: Sequence[Shown],
    reader: UserAccount,
    verdict: Verdict,
    answer: Answer | None,
    details: dict[str, Any],
    decision: Decision,
) -> bool:
    """The same reader sent the same decision again (a double click, a repeated request)."""
    latest, before = shown[0], shown[1].id if len(shown) > 1 else None
    return (
        latest.reader_fk == reader.id
        and before == decision.seen_review_id
        and latest.verdict == verdict
        and latest.answer == answer
        and latest.details == details
        and latest.reject_reason == decision.reject_reason
        and latest.comment == _comment(decision)
    )


def _comment(decision: Decision) -> str | None:
    return (decision.comment or "").replace("\0", "").strip() or None


def _add(session: Session, review: Review, study: Study) -> None:
    """Raises Conflict when another decision took the same revision: its uniqueness lets one of two win."""
    try:
        session.add(review)
        session.flush()
    except IntegrityError:
        raise Conflict(
            "this image has been decided in the meantime: look at that decision, then decide again"
        ) from None
    case_state.refresh(session, study)


def undo_review(session: Session, actor: Actor, image_id: int, review_id: int) -> int:
    """Withdraw the latest decision of an image, which then awaits review again; returns the id of the row that
    says so. A reader may withdraw only their own. Raises Conflict, NotFound, NotAllowed."""
    require(actor, *READERS)
    with writing(session):
        image, study = _image_and_study(session, image_id)
        reader = account_of(session, actor)
        known = _known(session, actor, image, study)
        line, shown = known.lines.get(image_id), known.decisions.get(image_id, ())
        review = next((one for one in shown if one.id == review_id), None)
        if review is None:
            raise NotFound(f"the image has no review {review_id}")
        if review.reader_fk != reader.id and actor.role != Role.ADMIN:
            raise NotAllowed("a decision can be withdrawn by the reader who made it, or by an admin")
        if shown[0] is not review or review.verdict == Verdict.WITHDRAWN:
            raise Conflict("this decision is no longer the latest: open the case again")
        columns = {
            "image_fk": image_id,
            "prediction_fk": review.prediction_fk,
            "reader_fk": reader.id,
            "verdict": Verdict.WITHDRAWN,
            "details": {},
        }
        if line is not None:
            withdrawal: Shown = BlindRead(blind_case_fk=line.case.id, **columns)
            second_read.record_blind_read(session, line.case, withdrawal, reader)
            detail = {"blind_read": review_id} | audit.fixed(withdrawal)
            audit.record(session, actor, "blind_read.withdrawn", f"image:{image_id}", detail)
        else:
            withdrawal = Review(revision=review.revision + 1, supersedes_id=review.id, **columns)
            _add(session, withdrawal, study)
            detail = {"review": review_id} | audit.fixed(withdrawal)
            audit.record(session, actor, "review.withdrawn", f"image:{image_id}", detail)
            second_read.follow_up(session, study, image, withdrawal, reader, is_first=False)
        return withdrawal.id


def set_facts(
    session: Session,
    actor: Actor,
    image_id: int,
    *,
    sex: Literal["M", "F", None] = None,
    birth_date: date | None = None,
    laterality: Literal["L", "R", None] = None,
    task: Task | None = None,
) -> None:
    """Fill in what the file did not say; who did is recorded. Undecided images that it matters to are read again.

    Only fills unknowns (a task that triage guessed counts as unknown): raises Conflict where the fact is known and
    differs, AdmissionRefused for a birth after the examination, NotFound, NotAllowed."""
    require(actor, *READERS)
    with writing(session):
        image, study = _image_and_study(session, image_id)
        patient = study.patient
        entered = [
            name
            for name, given in (("sex", sex), ("birth_date", birth_date), ("laterality", laterality), ("task", task))
            if given is not None
        ]
        if sex is not None and _is_new("sex", patient.sex, sex):
            patient.sex, patient.sex_entered_by = Sex(sex), actor.username
        if birth_date is not None and _is_new("birth date", patient.birth_date, birth_date):
            _refuse_birth_after_examination(session, patient, birth_date)
            patient.birth_date, patient.birth_date_entered_by = birth_date, actor.username
        if laterality is not None and _is_new("side", image.laterality, laterality):
            image.laterality, image.laterality_entered_by = Laterality(laterality), actor.username
        has_new_task = task is not None and (
            (study.task_source == TaskSource.TRIAGE and study.task != task) or _is_new("task", study.task, task)
        )
        if has_new_task:
            study.task, study.task_source = task, TaskSource.READER
        if sex is not None or birth_date is not None:
            case_state.learn_about_patient(session, patient)
        elif has_new_task:
            case_state.read_again(session, study)
        _drop_answered_warnings(session, study, entered)
        audit.record(session, actor, "facts.entered", f"image:{image_id}", {"study": study.id, "fields": entered})


def request_read(session: Session, actor: Actor, image_id: int) -> None:
    """Have an undecided image read again, after a read that failed, say. Commits. Raises Conflict for a decided
    image, NotFound, NotAllowed."""
    require(actor, *READERS)
    with writing(session):
        image, study = _image_and_study(session, image_id)
        known = _known(session, actor, image, study)
        if image_id in known.lines:
            raise Conflict("the image cannot be read again at present: give an answer or reject it")
        if known.decision(image_id) is not None:
            raise Conflict("the image is decided already: withdraw the decision first")
        case_state.queue_again(image, study, study.patient)
        case_state.refresh(session, study)
        audit.record(session, actor, "read.requested", f"image:{image_id}")


def _drop_answered_warnings(session: Session, study: Study, entered: list[str]) -> None:
    """A warning that a fact is not known (engine.imaging.admission) ends when it becomes known."""
    tags = {"sex": "(0010,0040)", "birth_date": "(0010,0030)", "laterality": "(0020,0062)"}
    answered = tuple(tag for name, tag in tags.items() if name in entered)
    of_child = "sex" in entered or "birth_date" in entered
    for each in repository.studies_of_patient(session, study.patient_fk) if of_child else [study]:
        if "laterality" in entered and any(image.laterality is None for image in each.images):
            continue
        each.warnings = [
            warning for warning in each.warnings if not (warning.startswith(answered) and "not known" in warning)
        ]


def _is_new(name: str, known: object, given: object) -> bool:
    """False when it is known already. Raises Conflict when it is known to be something else."""
    if known is not None and known != given:
        raise Conflict(f"the {name} is known already and differs: only what is unknown can be entered here")
    return known is None


def _refuse_birth_after_examination(session: Session, patient: Patient, birth_date: date) -> None:
    for study in repository.studies_of_patient(session, patient.id):
        if study.acquired_on is not None and birth_date > study.acquired_on:
            raise AdmissionRefused(
                "birth_after_study",
                f"a birth on {birth_date} lies after the child's examination on {study.acquired_on}",
            )


def _image_and_study(session: Session, image_id: int) -> tuple[Image, Study]:
    found = repository.locked_image(session, image_id)
    if found is None:
        raise NotFound(f"there is no image {image_id}")
    return found
