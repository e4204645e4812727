"""Blind cases, what their readers said, answers given before the read was shown, gold cases, and the rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Subquery, case, false, func, literal, select, update
from sqlalchemy.orm import Session, aliased, joinedload

from db.models import (
    AuditEvent,
    BlindAnswer,
    BlindCase,
    BlindKind,
    BlindRead,
    BlindState,
    GoldCase,
    Image,
    Patient,
    QualityRule,
    Review,
    Role,
    Study,
    StudyStatus,
    Task,
    UserAccount,
    Verdict,
)
from db.repositories.studies import EVERYTHING, SeenColumns

Superseding = aliased(Review)
READ_TWICE = (BlindState.AGREES, BlindState.DIFFERS, BlindState.SETTLED)
HIDING = (BlindState.OPEN, BlindState.AGREES, BlindState.DIFFERS)  # somebody is or was to know nothing of the case


def rules(session: Session) -> dict[Task, QualityRule]:
    return {rule.task: rule for rule in session.scalars(select(QualityRule))}


def hiding_cases(session: Session, image_ids: Sequence[int]) -> dict[int, list[BlindCase]]:
    query = select(BlindCase).where(BlindCase.image_fk.in_(image_ids), BlindCase.state.in_(HIDING))
    found: dict[int, list[BlindCase]] = {}
    for one in session.scalars(query.order_by(BlindCase.id)):
        found.setdefault(one.image_fk, []).append(one)
    return found


def seen_by(session: Session, reader_id: int | None, role: Role) -> SeenColumns:
    """A study's status and urgency as the reader may know them: what they read blind awaits its review until they have
    decided it, and is as urgent as its reads make it."""
    if role is Role.ADMIN or session.scalar(select(BlindCase.id).where(BlindCase.state.in_(HIDING)).limit(1)) is None:
        return EVERYTHING
    theirs = BlindCase.reader_fk == reader_id if reader_id is not None else false()
    not_first = BlindCase.kind == BlindKind.SECOND
    if reader_id is not None:
        not_first &= BlindCase.first_reader_fk != reader_id
    is_open, differs = BlindCase.state == BlindState.OPEN, BlindCase.state == BlindState.DIFFERS
    closed = BlindCase.state.in_((BlindState.AGREES, BlindState.DIFFERS))
    others = not_first & (BlindCase.reader_fk.is_(None) | ~theirs)
    to_read = is_open & ((not_first if role is Role.READER else false()) | theirs)
    withheld = others & (differs if role is Role.READER else differs | is_open)
    rejected = closed & theirs & (BlindCase.verdict == Verdict.REJECTED)
    answered = closed & theirs & (BlindCase.verdict != Verdict.REJECTED)

    def has(condition: ColumnElement[bool]) -> ColumnElement[bool]:
        return Study.id.in_(select(BlindCase.study_fk).where(BlindCase.state.in_(HIDING), condition))

    def by_reads(column: ColumnElement[Any]) -> ColumnElement[Any]:
        of_study = select(column).where(BlindCase.study_fk == Study.id, BlindCase.state.in_(HIDING))
        return of_study.correlate(Study).scalar_subquery()

    is_blind = has(to_read | withheld | (closed & theirs))
    return SeenColumns(
        status=case(
            (Study.status.not_in((StudyStatus.REVIEWED, StudyStatus.REJECTED)), Study.status),
            (has(to_read), literal(StudyStatus.AWAITING_REVIEW, Study.status.type)),
            (has(answered | withheld), literal(StudyStatus.REVIEWED, Study.status.type)),
            (has(rejected), literal(StudyStatus.REJECTED, Study.status.type)),
            else_=Study.status,
        ).label("status"),
        urgency_rank=case(
            (is_blind, by_reads(func.max(BlindCase.urgency_rank))),
            else_=Study.urgency_rank,
        ).label("urgency_rank"),
        act_by=case((is_blind, by_reads(func.min(BlindCase.act_by))), else_=Study.act_by).label("act_by"),
    )


def second_read_of(session: Session, image_id: int) -> BlindCase | None:
    """The second read that the image awaits, or has had and that is not settled."""
    query = select(BlindCase).where(
        BlindCase.image_fk == image_id, BlindCase.kind == BlindKind.SECOND, BlindCase.state.in_(HIDING)
    )
    return session.scalar(query.order_by(BlindCase.id.desc()).limit(1))


def open_cases(session: Session, kind: BlindKind) -> list[BlindCase]:
    query = select(BlindCase).where(BlindCase.kind == kind, BlindCase.state == BlindState.OPEN)
    return list(session.scalars(query.order_by(BlindCase.id)))


def reads_of_cases(session: Session, case_ids: Sequence[int]) -> dict[int, list[BlindRead]]:
    """Every decision of the blind readers, the latest first."""
    query = (
        select(BlindRead)
        .where(BlindRead.blind_case_fk.in_(case_ids))
        .order_by(BlindRead.revision.desc())
        .options(joinedload(BlindRead.reader))
    )
    found: dict[int, list[BlindRead]] = {}
    for read in session.scalars(query):
        found.setdefault(read.blind_case_fk, []).append(read)
    return found


def blind_answers(session: Session, image_ids: Sequence[int], reader_id: int) -> dict[int, BlindAnswer]:
    query = select(BlindAnswer).where(BlindAnswer.image_fk.in_(image_ids), BlindAnswer.reader_fk == reader_id)
    return {answer.image_fk: answer for answer in session.scalars(query)}


def standing_second_reads(session: Session) -> dict[int, list[BlindRead]]:
    """Image -> what second readers say of it and have not taken back; settled ones too."""
    latest = _latest_read()
    query = (
        select(BlindRead)
        .join(latest, (BlindRead.blind_case_fk == latest.c.blind_case_fk) & (BlindRead.revision == latest.c.revision))
        .join(BlindCase, BlindRead.blind_case_fk == BlindCase.id)
        .where(
            BlindCase.kind == BlindKind.SECOND,
            BlindCase.state != BlindState.VOID,
            BlindRead.verdict != Verdict.WITHDRAWN,
        )
        .order_by(BlindRead.id)
        .options(joinedload(BlindRead.reader))
    )
    found: dict[int, list[BlindRead]] = {}
    for read in session.scalars(query):
        found.setdefault(read.image_fk, []).append(read)
    return found


@dataclass(frozen=True)
class DoubleRead:
    """An image that had a first and a second read; an answer of None: rejected."""

    patient_id: int
    first_reader_id: int
    first: dict[str, Any] | None
    second_reader_id: int
    second: dict[str, Any] | None


def double_reads(session: Session) -> list[DoubleRead]:
    latest = _latest_read()
    query = (
        select(Study.patient_fk, Review.reader_fk, Review.answer, BlindRead.reader_fk, BlindRead.answer)
        .select_from(Review)
        .join(BlindCase, BlindCase.first_review_fk == Review.id)
        .join(Study, BlindCase.study_fk == Study.id)
        .join(BlindRead, BlindRead.blind_case_fk == BlindCase.id)
        .join(latest, (BlindRead.blind_case_fk == latest.c.blind_case_fk) & (BlindRead.revision == latest.c.revision))
        .where(BlindCase.kind == BlindKind.SECOND, BlindCase.state.in_(READ_TWICE))
        .order_by(BlindCase.id)
    )
    return [DoubleRead(*row) for row in session.execute(query)]


@dataclass(frozen=True)
class GoldRead:
    """What a reader said of a gold case; None: rejected."""

    patient_id: int
    reader_id: int
    known: dict[str, Any]
    answer: dict[str, Any] | None


def gold_reads(session: Session) -> list[GoldRead]:
    latest = _latest_read()
    query = (
        select(Study.patient_fk, BlindRead.reader_fk, GoldCase.answer, BlindRead.answer)
        .select_from(GoldCase)
        .join(BlindCase, BlindCase.gold_fk == GoldCase.id)
        .join(Study, BlindCase.study_fk == Study.id)
        .join(BlindRead, BlindRead.blind_case_fk == BlindCase.id)
        .join(latest, (BlindRead.blind_case_fk == latest.c.blind_case_fk) & (BlindRead.revision == latest.c.revision))
        .where(BlindCase.state.in_(READ_TWICE))
    )
    return [GoldRead(*row) for row in session.execute(query)]


def beyond_doubt(session: Session) -> Iterator[tuple[Review, Image, Patient, str]]:
    """The decision that stands where two readers say exactly the same, or an adjudicator settled, without gold cases;
    the latest first, with the reason. Fetched as far as the caller goes on."""
    latest = _latest_read()
    in_use = select(GoldCase.image_fk).where(GoldCase.retired_at.is_(None))
    query = (
        select(Review, Image, Patient, BlindCase.state, BlindRead.answer)
        .join(BlindCase, func.coalesce(BlindCase.adjudication_fk, BlindCase.first_review_fk) == Review.id)
        .join(BlindRead, BlindRead.blind_case_fk == BlindCase.id)
        .join(latest, (BlindRead.blind_case_fk == latest.c.blind_case_fk) & (BlindRead.revision == latest.c.revision))
        .join(Image, Review.image_fk == Image.id)
        .join(Study, Image.study_fk == Study.id)
        .join(Patient, Study.patient_fk == Patient.id)
        .where(
            BlindCase.state.in_((BlindState.AGREES, BlindState.SETTLED)),
            Review.verdict.in_((Verdict.CONFIRMED, Verdict.CORRECTED)),
            Review.revision
            == select(func.max(Superseding.revision)).where(Superseding.image_fk == Review.image_fk).scalar_subquery(),
            Image.id.not_in(in_use),
        )
        .order_by(BlindCase.id.desc())
    )
    for review, image, patient, state, second in session.execute(query.execution_options(yield_per=50)):
        if state == BlindState.SETTLED:
            yield review, image, patient, "settled by an adjudicator"
        elif review.answer == second:
            yield review, image, patient, "two blind readers said the same"


def seconds_of(session: Session, reader_id: int, task: Task, most: int) -> list[float]:
    """What the reader's latest decisions of the task took, blind ones too."""
    found: list[tuple[Any, float]] = []
    for table in (Review, BlindRead):
        query = (
            select(table.created_at, table.seconds)
            .join(Image, table.image_fk == Image.id)
            .join(Study, Image.study_fk == Study.id)
            .where(table.reader_fk == reader_id, Study.task == task, table.seconds.is_not(None))
            .order_by(table.id.desc())
            .limit(most)
        )
        found += [(at, seconds) for at, seconds in session.execute(query)]
    return [seconds for _, seconds in sorted(found, reverse=True)[:most]]


def readers_with_decisions(session: Session) -> list[UserAccount]:
    decided = UserAccount.id.in_(select(Review.reader_fk)) | UserAccount.id.in_(select(BlindRead.reader_fk))
    return list(session.scalars(select(UserAccount).where(decided).order_by(UserAccount.display_name)))


def _latest_read() -> Subquery:
    return (
        select(BlindRead.blind_case_fk, func.max(BlindRead.revision).label("revision"))
        .group_by(BlindRead.blind_case_fk)
        .subquery()
    )


def disputed_cases(session: Session) -> list[tuple[BlindCase, Image]]:
    """Second reads that differ and await an adjudicator, the longest waiting first."""
    query = (
        select(BlindCase, Image)
        .join(Image, BlindCase.image_fk == Image.id)
        .where(BlindCase.state == BlindState.DIFFERS, BlindCase.kind == BlindKind.SECOND)
        .order_by(BlindCase.id)
    )
    return [(case, image) for case, image in session.execute(query)]


def gold_of_image(session: Session, image_id: int) -> GoldCase | None:
    return session.scalar(select(GoldCase).where(GoldCase.image_fk == image_id))


def gold_in_use(session: Session) -> list[tuple[GoldCase, Image]]:
    query = select(GoldCase, Image).join(Image, GoldCase.image_fk == Image.id).where(GoldCase.retired_at.is_(None))
    return [(gold, image) for gold, image in session.execute(query.order_by(GoldCase.id))]


def void_open_gold(session: Session, gold_id: int) -> None:
    session.execute(
        update(BlindCase)
        .where(BlindCase.gold_fk == gold_id, BlindCase.state == BlindState.OPEN)
        .values(state=BlindState.VOID)
    )


def images_known_to(session: Session, reader_id: int) -> set[int]:
    """Images that the reader has decided, or was given to read blind."""
    decided = select(Review.image_fk).where(Review.reader_fk == reader_id)
    dealt = select(BlindCase.image_fk).where(BlindCase.reader_fk == reader_id)
    read = select(BlindRead.image_fk).where(BlindRead.reader_fk == reader_id)
    return {image_id for query in (decided, dealt, read) for image_id in session.scalars(query)}


def subjects_viewed_by(session: Session, username: str, subjects: Sequence[str]) -> set[str]:
    query = select(AuditEvent.subject).where(
        AuditEvent.actor == username, AuditEvent.action == "study.viewed", AuditEvent.subject.in_(subjects)
    )
    return set(session.scalars(query))


def decisions_since_gold(session: Session, reader_id: int) -> int:
    """How many images the reader has decided since a gold case was last dealt to them."""
    last = session.scalar(
        select(func.max(BlindCase.created_at)).where(BlindCase.reader_fk == reader_id, BlindCase.kind == BlindKind.GOLD)
    )
    count = 0
    for table in (Review, BlindRead):
        query = select(func.count()).where(table.reader_fk == reader_id, table.verdict != Verdict.WITHDRAWN)
        if last is not None:
            query = query.where(table.created_at > last)
        count += session.scalar(query) or 0
    return count
