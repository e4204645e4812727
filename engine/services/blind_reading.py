"""What a reader must not know yet: the read before they have answered (blind-first), and what others decided about a
case that they are to read as if nobody had (second reads and gold cases).

Everything that shows a reader what is known about an image asks `known_to`. An admin sees everything, and is therefore
never a blind reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from db.models import (
    BlindAnswer,
    BlindCase,
    BlindKind,
    BlindRead,
    BlindState,
    Prediction,
    Review,
    Role,
    Study,
    StudyStatus,
    Verdict,
)
from db.repositories import accounts as accounts_repository
from db.repositories import blind as repository
from db.repositories.reviews import latest_reviews, reviews_of_images
from db.repositories.studies import image_ids_of_study, locked_image
from db.session import writing
from engine.errors import AnswerRefused, Conflict, NotFound
from engine.findings import additions
from engine.findings.answers import Answer, check_answer
from engine.findings.urgency import Urgency, most_urgent
from engine.services import audit, case_state
from engine.services.accounts import READERS, Actor, account_of, require

Shown = Review | BlindRead

WITH_ADJUDICATOR = "two readers differ about this image, and an adjudicator decides"
AWAITS_SECOND_READER = "this image awaits a second reader: what was decided is shown after that"


@dataclass(frozen=True)
class BlindLine:
    """An image to a reader who must not know what the case's readers decided. `reads` are their own, the latest
    first. `withheld`: why it is not theirs to read either."""

    case: BlindCase
    reads: tuple[BlindRead, ...] = ()
    withheld: str | None = None


def blind_lines(session: Session, actor: Actor, image_ids: Sequence[int]) -> dict[int, BlindLine]:
    """Of those images whose decisions the actor must not know."""
    require(actor, *READERS, Role.SERVICE)
    if actor.role is Role.ADMIN:
        return {}
    cases = repository.hiding_cases(session, image_ids)
    if not cases:
        return {}
    account = accounts_repository.account_by_username(session, actor.username)
    reader_id = account.id if account else None
    theirs = [case.id for of_image in cases.values() for case in of_image if case.reader_fk == reader_id]
    reads = repository.reads_of_cases(session, theirs)
    lines: dict[int, BlindLine] = {}
    for image_id, of_image in cases.items():
        for case in of_image:
            line = _line(actor, reader_id, case, reads)
            if line is not None:
                lines.setdefault(image_id, line)
    return lines


def _line(actor: Actor, reader_id: int | None, case: BlindCase, reads: dict[int, list[BlindRead]]) -> BlindLine | None:
    """None where the actor sees the case itself."""
    if reader_id is not None and case.reader_fk == reader_id:
        return BlindLine(case, tuple(reads.get(case.id, ())))
    if case.kind == BlindKind.GOLD or (reader_id is not None and case.first_reader_fk == reader_id):
        return None
    if case.state == BlindState.OPEN:
        withheld = None if actor.role is Role.READER else AWAITS_SECOND_READER
        return BlindLine(case, withheld=withheld)
    return BlindLine(case, withheld=WITH_ADJUDICATOR) if case.state == BlindState.DIFFERS else None


def is_blind_to(session: Session, actor: Actor, study_id: int) -> bool:
    """Whether the actor must not know what was decided about some image of the study."""
    return bool(blind_lines(session, actor, image_ids_of_study(session, study_id)))


@dataclass(frozen=True)
class KnownToReader:
    """What the actor may know of some studies. `decisions` of each image, the latest first, withdrawals included: the
    case's own, or those of a blind reader alone. `hidden_reads`: images whose read is shown after their answer."""

    lines: Mapping[int, BlindLine]
    decisions: Mapping[int, Sequence[Shown]]
    hidden_reads: frozenset[int]

    def is_blind(self, study: Study) -> bool:
        """Some of what was decided about the study must not be known."""
        return any(image.id in self.lines for image in study.images)

    def withheld(self, image_id: int) -> str | None:
        line = self.lines.get(image_id)
        return line.withheld if line else None

    def decision(self, image_id: int) -> Shown | None:
        """The one in force."""
        return case_state.in_force(next(iter(self.decisions.get(image_id, ())), None))

    def status(self, study: Study) -> StudyStatus:
        if not self.is_blind(study):
            return study.status
        verdicts: dict[int, Verdict | None] = {}
        for image in study.images:
            decision = self.decision(image.id)
            if self.withheld(image.id):
                verdicts[image.id] = Verdict.CORRECTED  # or anything else that is no rejection
            else:
                verdicts[image.id] = decision.verdict if decision else None
        return case_state.status_of(study.images, verdicts)

    def urgency(self, study: Study, predictions: Mapping[int, Prediction]) -> Urgency:
        """By the decisions that may be known, else by the reads. Of a hidden read only how urgent it makes the case: a
        child who cannot wait comes first, blind or not."""
        urgency = most_urgent(
            [
                case_state.image_urgency(study, self.decision(image.id), predictions.get(image.id))
                for image in study.images
            ]
        )
        tells = any(image.id in self.hidden_reads for image in study.images)
        return replace(urgency, reason=None, source=None) if tells else urgency


def known_to(session: Session, actor: Actor, studies: Sequence[Study], *, latest_only: bool = False) -> KnownToReader:
    """`studies` have their images loaded. `latest_only`: no more than the latest decision of each image is wanted."""
    image_ids = [image.id for study in studies for image in study.images]
    lines = blind_lines(session, actor, image_ids)
    of_case = [image_id for image_id in image_ids if image_id not in lines]
    decisions: dict[int, list[Shown]]
    if latest_only:
        decisions = {image_id: [review] for image_id, review in latest_reviews(session, of_case).items()}
    else:
        decisions = {**reviews_of_images(session, of_case)}
    decisions |= {image_id: list(line.reads) for image_id, line in lines.items()}
    return KnownToReader(lines, decisions, _hidden_reads(session, actor, studies, decisions))


def _hidden_reads(
    session: Session, actor: Actor, studies: Sequence[Study], decisions: Mapping[int, Sequence[Shown]]
) -> frozenset[int]:
    """Undecided images of a task that is read blind-first, which the actor has not answered yet."""
    if actor.role is Role.ADMIN:
        return frozenset()
    blind_tasks = {task for task, rule in repository.rules(session).items() if rule.blind_first}
    images = [image.id for study in studies if study.task in blind_tasks for image in study.images]
    undecided = [id for id in images if not decisions.get(id)]
    if not undecided:
        return frozenset()
    return frozenset(undecided) - frozenset(blind_answers_given(session, actor, undecided))


def blind_answers_given(session: Session, actor: Actor, image_ids: Sequence[int]) -> dict[int, BlindAnswer]:
    """What the actor answered before they saw the read."""
    require(actor, *READERS, Role.SERVICE)
    account = accounts_repository.account_by_username(session, actor.username)
    return repository.blind_answers(session, image_ids, account.id) if account else {}


def give_blind_answer(
    session: Session,
    actor: Actor,
    image_id: int,
    answer: dict[str, Any],
    seconds: float | None = None,
    *,
    comment: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Answer:
    """Answer before the read is shown, which it is from then on; it stays beside the decision, with what was said and
    marked besides. Commits.

    Sending the same answer twice stores it once. Raises Conflict where the actor has answered otherwise already, or has
    seen the read; AnswerRefused, NotFound, NotAllowed."""
    require(actor, *READERS)
    checked = check_answer(answer)
    additions.check_length(comment, details or {})
    checked_details = additions.checked_details(checked, details or {})
    with writing(session):
        found = locked_image(session, image_id)
        if found is None:
            raise NotFound(f"there is no image {image_id}")
        study = found[1]
        reader = account_of(session, actor)
        given = repository.blind_answers(session, [image_id], reader.id).get(image_id)
        if given is not None:
            if given.answer != checked:
                raise Conflict("you have answered already, and the read was shown: decide now")
            return given.answer
        known = known_to(session, actor, [study])
        if known.withheld(image_id):
            raise Conflict(str(known.withheld(image_id)))
        if image_id not in known.hidden_reads:
            raise Conflict("the read of this image is not hidden from you: decide about it")
        if checked["task"] != study.task:
            raise AnswerRefused("wrong_task", f"the case is read for {study.task}, the answer is for {answer['task']}")
        said = {"answer": checked, "comment": (comment or "").strip() or None, "details": checked_details}
        row = BlindAnswer(image_fk=image_id, reader_fk=reader.id, seconds=seconds, **said)
        session.add(row)
        session.flush()
        audit.record(session, actor, "blind_answer.given", f"image:{image_id}", audit.fixed(row))
        return checked
