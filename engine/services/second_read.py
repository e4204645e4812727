"""Second reads: a share of the decided studies is read once more by somebody who does not know of the first read.

To that reader the case looks as if it awaited its first review. What they decide stands beside the case and never
changes it. Where the two differ (engine.services.reader_agreement says when), an adjudicator settles it."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy.orm import Session

from db.models import (
    URGENCY_RANK,
    BlindCase,
    BlindKind,
    BlindRead,
    BlindState,
    GoldCase,
    Image,
    Review,
    Role,
    Study,
    Urgency,
    UserAccount,
    Verdict,
)
from db.repositories import blind as repository
from db.repositories.reads import latest_predictions
from engine.findings.urgency import most_urgent
from engine.services import answer_facts, case_state
from engine.services.blind_reading import Shown
from engine.services.reader_agreement import SETTLERS, agree


def is_sampled(study: Study, share: float) -> bool:
    """By a hash of the study, so that all its images are read again and nobody can choose."""
    digest = hashlib.sha256(f"second read:{study.study_instance_uid}".encode()).hexdigest()
    return int(digest[:8], 16) / 2**32 < share


def follow_up(
    session: Session, study: Study, image: Image, review: Review, reader: UserAccount, *, is_first: bool
) -> None:
    """After a decision about the case itself: sample it for a second read, or compare it with the one it has had.
    `is_first`: no decision stood before. Part of the caller's transaction."""
    case = repository.second_read_of(session, image.id)
    if case is None:
        if is_first and review.verdict != Verdict.WITHDRAWN and _wants_second_read(session, study, image, reader):
            session.add(
                BlindCase(
                    kind=BlindKind.SECOND,
                    image_fk=image.id,
                    study_fk=study.id,
                    first_review_fk=review.id,
                    first_reader_fk=reader.id,
                    **urgency_columns(session, study),
                )
            )
    elif reader.role in SETTLERS or review.verdict == Verdict.WITHDRAWN:
        settled = case.state == BlindState.DIFFERS and review.verdict != Verdict.WITHDRAWN
        case.state = BlindState.SETTLED if settled else BlindState.VOID
        case.adjudication_fk = review.id if settled else None
    elif reader.id == case.first_reader_fk:
        case.first_review_fk = review.id
        if case.state != BlindState.OPEN:
            case.state = _compared(review, repository.reads_of_cases(session, [case.id])[case.id][0])
    if case is not None:
        answer_facts.refresh(session, [image.id])


def _wants_second_read(session: Session, study: Study, image: Image, reader: UserAccount) -> bool:
    rule = repository.rules(session).get(study.task) if study.task else None
    if rule is None or reader.role != Role.READER or not is_sampled(study, rule.second_read_share):
        return False
    return repository.gold_of_image(session, image.id) is None


def urgency_columns(session: Session, study: Study) -> dict[str, Any]:
    """Of a BlindCase: how urgent the study is by its reads alone."""
    predictions = latest_predictions(session, [image.id for image in study.images])
    urgency = most_urgent([case_state.read_urgency(read, study.age_months) for read in predictions.values()])
    return {"urgency_rank": URGENCY_RANK[Urgency(urgency.level)], "act_by": urgency.act_by(study.acquired_on)}


def record_blind_read(session: Session, case: BlindCase, read: BlindRead, reader: UserAccount) -> None:
    """Of a second read or a gold case; it may be a withdrawal. Part of the caller's transaction."""
    before = repository.reads_of_cases(session, [case.id]).get(case.id, [])
    read.revision = before[0].revision + 1 if before else 1
    session.add(read)
    session.flush()
    if read.verdict == Verdict.WITHDRAWN:
        case.state, case.verdict = BlindState.OPEN, None
        if case.kind == BlindKind.SECOND:
            case.reader_fk = None
    else:
        case.reader_fk, case.verdict = reader.id, read.verdict
        is_gold = case.kind == BlindKind.GOLD
        known = session.get_one(GoldCase, case.gold_fk) if is_gold else session.get_one(Review, case.first_review_fk)
        case.state = _compared(known, read)
    answer_facts.refresh(session, [case.image_fk])


def _compared(first: Shown | GoldCase, second: Shown) -> BlindState:
    if first.answer is None or second.answer is None:
        return BlindState.AGREES if first.answer is second.answer else BlindState.DIFFERS
    return BlindState.AGREES if agree(first.answer, second.answer) else BlindState.DIFFERS
