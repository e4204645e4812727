"""Adjudication: two readers differ, and a third one decides with both reads side by side, not knowing whose."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from db.models import BlindCase, BlindKind, BlindState, RejectReason, Review, Role, Study, UserAccount, Verdict
from db.repositories import blind as repository
from db.repositories.accounts import account_by_username
from db.repositories.reads import latest_predictions
from db.repositories.reviews import latest_reviews
from db.repositories.studies import locked_image, study_with_images
from db.session import writing
from engine.errors import AnswerRefused, Conflict, NotAllowed, NotFound
from engine.findings import additions
from engine.findings.age import months_words
from engine.findings.answers import Answer, Task, check_answer
from engine.findings.summary import answer_words
from engine.services import audit, case_state, second_read, study_view, words
from engine.services.accounts import Actor, account_of, require
from engine.services.blind_reading import Shown
from engine.services.study_view import StudyView

MAX_COMMENT = 4000  # characters


@dataclass(frozen=True)
class Dispute:
    """A case that awaits an adjudicator."""

    case_id: int
    image_id: int
    study_id: int
    pseudonym: str
    task: Task
    laterality: str | None
    age_words: str | None
    since: datetime
    is_phantom: bool


@dataclass(frozen=True)
class AnonymousRead:
    """What one of the two said. Who, when and how long it took are left out: they could tell whose it is."""

    answer: Answer | None  # None: rejected
    words: str
    reject_reason: RejectReason | None
    comment: str | None
    details: dict[str, Any]


@dataclass(frozen=True)
class DisputedCase:
    """`reads` in an order that says nothing. `months_apart`: of two bone ages."""

    dispute: Dispute
    study: StudyView
    reads: tuple[AnonymousRead, AnonymousRead]
    months_apart: int | None


@dataclass(frozen=True)
class Ruling:
    """`answer` None: the image is rejected for `reject_reason`."""

    answer: dict[str, Any] | None
    reject_reason: RejectReason | None = None
    comment: str | None = None
    seconds: float | None = None


def disputes(session: Session, actor: Actor) -> list[Dispute]:
    """Those that the actor may settle, the longest waiting first: not those they have read themselves. Raises
    NotAllowed."""
    require(actor, Role.ADJUDICATOR)
    me = account_by_username(session, actor.username)
    found = []
    for case, image in repository.disputed_cases(session):
        if me is None or me.id not in (case.first_reader_fk, case.reader_fk):
            study = study_with_images(session, image.study_fk)
            assert study is not None and study.task is not None
            reads = repository.reads_of_cases(session, [case.id])[case.id]
            found.append(_dispute(case, study, reads[0].created_at))
    return found


def load(session: Session, actor: Actor, case_id: int) -> DisputedCase:
    """Commits an audit row. Raises NotFound, Conflict where it is settled, NotAllowed for one of the two readers."""
    require(actor, Role.ADJUDICATOR)
    with writing(session):
        case = _open_case(session, case_id)
        _refuse_own(account_of(session, actor), case)
        study = study_with_images(session, case.study_fk)
        assert study is not None and study.task is not None
        first, second = _both(session, case)
        audit.record(session, actor, "adjudication.viewed", f"image:{case.image_fk}", {"blind_case": case_id})
        reads = (first, second) if _draw(case) else (second, first)
        months = [one.answer["bone_age_months"] for one in reads if one.answer and "bone_age_months" in one.answer]
        return DisputedCase(
            _dispute(case, study, second.created_at),
            study_view.study_view(session, _nobody(actor), study),
            (_anonymous(reads[0]), _anonymous(reads[1])),
            abs(months[0] - months[1]) if len(months) == 2 else None,
        )


def settle(session: Session, actor: Actor, case_id: int, ruling: Ruling) -> int:
    """Make the ruling the decision about the case, and return its id. Commits.

    Raises AnswerRefused, Conflict where it is settled already or a reader has thought again, NotFound, NotAllowed for
    one of the two readers."""
    require(actor, Role.ADJUDICATOR)
    answer = _checked(ruling)
    with writing(session):
        case = _open_case(session, case_id)
        found = locked_image(session, case.image_fk)
        assert found is not None
        case = _open_case(session, case_id)  # as it stands now that nobody else can change it
        image, study = found
        judge = account_of(session, actor)
        _refuse_own(judge, case)
        if answer is not None and answer["task"] != study.task:
            raise AnswerRefused("wrong_task", f"the case is read for {study.task}, the answer is for {answer['task']}")
        prediction = latest_predictions(session, [image.id]).get(image.id)
        latest = latest_reviews(session, [image.id])[image.id]
        verdict = Verdict.REJECTED
        if answer is not None:
            as_read = prediction is not None and prediction.answer == answer
            verdict = Verdict.CONFIRMED if as_read else Verdict.CORRECTED
        review = Review(
            image_fk=image.id,
            revision=latest.revision + 1,
            supersedes_id=latest.id,
            prediction_fk=prediction.id if prediction else None,
            reader_fk=judge.id,
            verdict=verdict,
            answer=answer,
            reject_reason=ruling.reject_reason,
            comment=_comment(ruling),
            details=_details_of(session, case, answer),
            seconds=ruling.seconds,
        )
        session.add(review)
        case_state.refresh(session, study)
        second_read.follow_up(session, study, image, review, judge, is_first=False)
        detail = {"blind_case": case_id, "review": review.id, "verdict": verdict.value} | audit.fixed(review)
        audit.record(session, actor, "adjudication.settled", f"image:{image.id}", detail)
        return review.id


def _nobody(actor: Actor) -> Actor:
    """Reads the case as an adjudicator who must not know whose decision is whose, also where an admin settles."""
    return Actor(actor.username, actor.display_name, Role.ADJUDICATOR)


def _open_case(session: Session, case_id: int) -> BlindCase:
    case = session.get(BlindCase, case_id, populate_existing=True)
    if case is None or case.kind != BlindKind.SECOND:
        raise NotFound(f"there is no disagreement {case_id}")
    if case.state != BlindState.DIFFERS:
        raise Conflict("this disagreement is settled already, or a reader has thought again: go on to the next")
    return case


def _refuse_own(judge: UserAccount, case: BlindCase) -> None:
    if judge.id in (case.first_reader_fk, case.reader_fk):
        raise NotAllowed("one of the two reads is your own: another adjudicator settles it")


def _both(session: Session, case: BlindCase) -> tuple[Shown, Shown]:
    return session.get_one(Review, case.first_review_fk), repository.reads_of_cases(session, [case.id])[case.id][0]


def _dispute(case: BlindCase, study: Study, since: datetime) -> Dispute:
    image = next(one for one in study.images if one.id == case.image_fk)
    return Dispute(
        case_id=case.id,
        image_id=image.id,
        study_id=study.id,
        pseudonym=study.patient.pseudonym,
        task=Task(study.task),  # type: ignore[arg-type]
        laterality=image.laterality.value if image.laterality else None,
        age_words=None if study.age_months is None else months_words(study.age_months),
        since=since,
        is_phantom=study.is_phantom,
    )


def _anonymous(read: Shown) -> AnonymousRead:
    said = answer_words(read.answer, read.details) if read.answer is not None else words.review_words(read)
    return AnonymousRead(read.answer, said, read.reject_reason, read.comment, read.details)


def _draw(case: BlindCase) -> bool:
    """Which of the two stands left: always the same for a case, and unknown without its number."""
    return hashlib.sha256(f"adjudication:{case.id}".encode()).digest()[0] % 2 == 0


def _checked(ruling: Ruling) -> Answer | None:
    if len(_comment(ruling) or "") > MAX_COMMENT:
        raise AnswerRefused("too_long", f"a comment may have at most {MAX_COMMENT} characters")
    if (ruling.answer is None) != (ruling.reject_reason is not None):
        raise AnswerRefused("reject_reason", "give an answer, or a reason to reject the image")
    if ruling.reject_reason == RejectReason.OTHER and not _comment(ruling):
        raise AnswerRefused("comment_missing", 'the reason "other" needs a comment')
    return None if ruling.answer is None else check_answer(ruling.answer)


def _comment(ruling: Ruling) -> str | None:
    return (ruling.comment or "").replace("\0", "").strip() or None


def _details_of(session: Session, case: BlindCase, answer: Answer | None) -> dict[str, Any]:
    """Of the read that the ruling follows: what its reader added to the answer is part of what is ruled right."""
    if answer is None:
        return {}
    followed = [read for read in _both(session, case) if read.answer == answer]
    return additions.checked(answer, followed[0].details) if followed else {}
