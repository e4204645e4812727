"""Gold cases: images whose answer is beyond doubt, dealt unseen into the readers' work.

To the reader it looks like any other case; what they answer is compared with the gold answer and changes nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy.orm import Session

from db.models import BlindCase, BlindKind, BlindState, GoldCase, Image, Role, UserAccount
from db.repositories import blind as repository
from db.repositories.reviews import latest_reviews
from db.repositories.studies import locked_image, study_with_images
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, NotFound, Refused
from engine.findings.answers import Answer, Task
from engine.services import audit, case_state, second_read
from engine.services.accounts import Actor, require


@dataclass(frozen=True)
class Gold:
    gold_id: int
    image_id: int
    study_id: int
    task: Task
    answer: Answer
    source: str
    made_by: str
    made_at: datetime


def gold_cases(session: Session, actor: Actor) -> list[Gold]:
    """Those in use. Admins only: a reader must not know which they are."""
    require(actor)
    return [
        Gold(
            gold.id,
            image.id,
            image.study_fk,
            Task(gold.answer["task"]),
            gold.answer,
            gold.source,
            gold.made_by,
            gold.made_at,
        )
        for gold, image in repository.gold_in_use(session)
    ]


@dataclass(frozen=True)
class Candidate:
    """An image whose answer is beyond doubt: `why`."""

    image_id: int
    study_id: int
    pseudonym: str
    task: Task
    answer: Answer
    why: str


def candidates(session: Session, actor: Actor, most: int | None = None) -> list[Candidate]:
    """Images that two readers agree on exactly, or an adjudicator settled, and that are no gold cases yet; the latest
    first, at most so many. Admins only."""
    require(actor)
    return [
        Candidate(image.id, image.study_fk, patient.pseudonym, Task(review.answer["task"]), review.answer, why)
        for review, image, patient, why in islice(repository.beyond_doubt(session), most)
    ]


def make_gold(session: Session, actor: Actor, image_id: int, source: str) -> int:
    """Use the decision in force as a gold answer, for the reason given. Commits. Admins only.

    Raises Refused where nothing is decided, the image was rejected or no reason is given, Conflict where a second read
    or an adjudicator is awaited, NotFound, NotAllowed."""
    require(actor)
    if not source.strip():
        raise Refused("source", "say why the answer is beyond doubt")
    with writing(session):
        if locked_image(session, image_id) is None:
            raise NotFound(f"there is no image {image_id}")
        decision = case_state.in_force(latest_reviews(session, [image_id]).get(image_id))
        if decision is None or decision.answer is None:
            raise Refused("no_answer", "only an image with an answer in force can become a gold case")
        second = repository.second_read_of(session, image_id)
        if second is not None and second.state != BlindState.AGREES:
            raise Conflict("the image awaits a second reader or an adjudicator: not beyond doubt yet")
        gold = repository.gold_of_image(session, image_id)
        if gold is None:
            gold = GoldCase(image_fk=image_id)
            session.add(gold)
        gold.answer, gold.source, gold.made_by = decision.answer, source.strip(), actor.username
        gold.made_at, gold.retired_at = utc_now(), None
        session.flush()
        audit.record(session, actor, "gold_case.made", f"image:{image_id}", {"gold": gold.id})
        return gold.id


def retire(session: Session, actor: Actor, gold_id: int) -> None:
    """Deal it to nobody any more, and take back where it was dealt and not read. Commits. Admins only."""
    require(actor)
    with writing(session):
        gold = session.get(GoldCase, gold_id)
        if gold is None:
            raise NotFound(f"there is no gold case {gold_id}")
        gold.retired_at = utc_now()
        repository.void_open_gold(session, gold_id)
        audit.record(session, actor, "gold_case.retired", f"image:{gold.image_fk}", {"gold": gold_id})


def deal(session: Session, task: Task | None, reader: UserAccount) -> None:
    """After a decision of the reader: once in so many, put a gold case of the task on their worklist that they know
    nothing of. Part of the caller's transaction."""
    rule = repository.rules(session).get(task) if task else None  # type: ignore[call-overload]
    if rule is None or not rule.gold_every or reader.role != Role.READER:
        return
    if repository.decisions_since_gold(session, reader.id) < rule.gold_every:
        return
    known = repository.images_known_to(session, reader.id)
    candidates = [
        (gold, image)
        for gold, image in repository.gold_in_use(session)
        if gold.answer["task"] == task and image.id not in known
    ]
    viewed = repository.subjects_viewed_by(session, reader.username, [f"study:{i.study_fk}" for _, i in candidates])
    candidates = [(gold, image) for gold, image in candidates if f"study:{image.study_fk}" not in viewed]
    if not candidates:
        return
    gold, image = min(candidates, key=lambda one: _draw(reader, one[1]))
    study = study_with_images(session, image.study_fk)
    assert study is not None
    session.add(
        BlindCase(
            kind=BlindKind.GOLD,
            image_fk=image.id,
            study_fk=study.id,
            reader_fk=reader.id,
            gold_fk=gold.id,
            **second_read.urgency_columns(session, study),
        )
    )


def _draw(reader: UserAccount, image: Image) -> str:
    """Another order for every reader."""
    return hashlib.sha256(f"gold:{reader.pseudonym}:{image.file_sha256}".encode()).hexdigest()
