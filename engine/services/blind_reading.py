"""What a reader must not know yet: the read before they have answered (blind-first), and what others decided about a
case that they are to read as if nobody had (second reads and gold cases).

Everything that shows a reader what is known about an image asks here: `decisions_shown` and `reads_hidden`. An admin
sees everything, and is therefore never a blind reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from db.models import (
    BlindAnswer,
    BlindCase,
    BlindKind,
    BlindRead,
    BlindState,
    Image,
    Prediction,
    Review,
    Role,
    Study,
    StudyStatus,
    Verdict,
)
from db.repositories import accounts as accounts_repository
from db.repositories import blind as repository
from db.repositories.reviews import reviews_of_images
from db.repositories.studies import locked_image
from db.session import writing
from engine.errors import AnswerRefused, Conflict, NotFound
from engine.findings.answers import Answer, Task, check_answer
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


def decisions_shown(
    session: Session, actor: Actor, image_ids: Sequence[int], lines: Mapping[int, BlindLine] | None = None
) -> dict[int, list[Shown]]:
    """What the actor may know of what was decided about each image, the latest first, withdrawals included: the case's
    own decisions, or those of a blind reader alone."""
    lines = blind_lines(session, actor, image_ids) if lines is None else lines
    shown: dict[int, list[Shown]] = {**reviews_of_images(session, [id for id in image_ids if id not in lines])}
    return shown | {image_id: list(line.reads) for image_id, line in lines.items()}


def reads_hidden(
    session: Session, actor: Actor, studies: Sequence[Study], shown: Mapping[int, Sequence[Shown]]
) -> set[int]:
    """Images whose read the actor must not know before they have answered: undecided ones of a task that is read
    blind-first. `studies` have their images loaded; `shown` as `decisions_shown` gives it."""
    if actor.role is Role.ADMIN:
        return set()
    blind_tasks = {task for task, rule in repository.rules(session).items() if rule.blind_first}
    images = [image.id for study in studies if study.task in blind_tasks for image in study.images]
    undecided = [id for id in images if not shown.get(id)]
    if not undecided:
        return set()
    return set(undecided) - set(blind_answers_given(session, actor, undecided))


def blind_answers_given(session: Session, actor: Actor, image_ids: Sequence[int]) -> dict[int, BlindAnswer]:
    """What the actor answered before they saw the read."""
    account = accounts_repository.account_by_username(session, actor.username)
    return repository.blind_answers(session, image_ids, account.id) if account else {}


def shown_status(study: Study, lines: Mapping[int, BlindLine], shown: Mapping[int, Sequence[Shown]]) -> StudyStatus:
    """The study's status as far as the actor may know it."""
    if not any(image.id in lines for image in study.images):
        return study.status
    verdicts: dict[int, Verdict | None] = {}
    for image in study.images:
        line, latest = lines.get(image.id), next(iter(shown.get(image.id, ())), None)
        withheld = line is not None and line.withheld is not None
        decision = case_state.in_force(latest)
        verdicts[image.id] = Verdict.CORRECTED if withheld else decision.verdict if decision else None
    return case_state.status_of(study.images, verdicts)


def shown_urgency(
    study: Study, predictions: Mapping[int, Prediction], shown: Mapping[int, Sequence[Shown]], hidden: set[int]
) -> Urgency:
    """By the decisions the actor may know, else by the reads. Of a hidden read only how urgent it makes the case: the
    child who cannot wait comes first, blind or not."""
    urgency = most_urgent(
        [
            case_state.image_urgency(study, next(iter(shown.get(image.id, ())), None), predictions.get(image.id))
            for image in study.images
        ]
    )
    tells = any(image.id in hidden for image in study.images)
    return Urgency(urgency.level, unverified=urgency.unverified) if tells else urgency


def give_blind_answer(
    session: Session, actor: Actor, image_id: int, answer: dict[str, Any], seconds: float | None = None
) -> Answer:
    """Answer before the read is shown, which it is from then on; it stays beside the decision. Commits.

    Sending the same answer twice stores it once. Raises Conflict where the actor has answered otherwise already, or has
    seen the read; AnswerRefused, NotFound, NotAllowed."""
    require(actor, *READERS)
    checked = check_answer(answer)
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
        shown = decisions_shown(session, actor, [image_id])
        if image_id not in reads_hidden(session, actor, [study], shown):
            raise Conflict("the read of this image is not hidden from you: decide about it")
        if checked["task"] != study.task:
            raise AnswerRefused("wrong_task", f"the case is read for {study.task}, the answer is for {answer['task']}")
        session.add(BlindAnswer(image_fk=image_id, reader_fk=reader.id, answer=checked, seconds=seconds))
        audit.record(session, actor, "blind_answer.given", f"image:{image_id}")
        return checked


def refuse_unseen_read(session: Session, actor: Actor, image: Image, study: Study, shown: Sequence[Shown]) -> None:
    """Raises AnswerRefused for a decision about a read that must not be known yet: the answer comes first."""
    if image.id in reads_hidden(session, actor, [study], {image.id: shown}):
        task = Task(study.task)  # type: ignore[arg-type]
        raise AnswerRefused("blind_answer_missing", f"{task} is read blind first: give your own answer, then decide")
