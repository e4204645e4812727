"""What the demo's readers decided in the weeks before: three of them, second reads, gold cases, rulings and one open
disagreement, so that dashboards and quality page have something to show. The films are phantoms and the readers made
up; the reads are the model's own.

The readers decide through the same services as anybody; only when they did is set afterwards (`_set_times`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy.orm import Session

from db.models import Base, BlindCase, BlindKind, RejectReason, Role, Verdict
from db.repositories import blind as blind_repository
from db.repositories import demo as repository
from db.session import session_scope, writing
from db.types import utc_now
from engine.findings.answers import ALLOWED, MAX_BONE_AGE_MONTHS, Answer, Task, bone_age_answer
from engine.findings.bone_age import TWO_READINGS_DIFFER_MONTHS
from engine.services import adjudication, answer_facts, audit, blind_reading, gold_cases, quality_rules, review
from engine.services.accounts import (
    Actor,
    demo_adjudicator,
    demo_admin,
    demo_reader,
    demo_second_reader,
    service_actor,
)
from engine.services.adjudication import Ruling
from engine.services.demo_files import SEED
from engine.services.quality_rules import Rule
from engine.services.review import Decision, ImageView

WEEKS = 6
CLOSE_ENOUGH_MONTHS = 4  # a reader confirms a bone age this near to their own
REJECT_EVERY = 19  # image
READ_TWICE = {Task.BONE_AGE: 0.5, Task.ROP: 0.8, Task.FRACTURE: 0.5}  # share of the studies
GOLD_EVERY, GOLD_OF_A_TASK = 4, 3
FOLLOWS_THE_READ = 0.4  # of those who answered blind and then see another read
FROM_NOW_ON = {"second_read_share": 0.2, "gold_every": 20}
REASONS = {
    Task.BONE_AGE: ("Carpals behind the phalanges.", "Epiphyses wider than the metaphyses.", "Sesamoid not there yet."),
    Task.ROP: ("Vessels end further back.", "A ridge, not a line.", "Veins wide, arteries straight."),
    Task.FRACTURE: (
        "Cortex bulges on one side only.",
        "A growth plate, no fracture.",
        "Both cortices are broken.",
    ),
}
REJECTED = (
    (RejectReason.POOR_QUALITY, "Motion blur."),
    (RejectReason.NOT_READABLE, "Cut off at the edge."),
    (RejectReason.WRONG_VIEW, "Oblique."),
)


@dataclass(frozen=True)
class _Reader:
    actor: Actor
    spread_months: float  # SD about the truth
    slips: float  # share of class answers that are next to the truth
    pace: float  # seconds

    @property
    def name(self) -> str:
        return self.actor.username


READERS = (
    _Reader(demo_reader(), 2.0, 0.03, 6.0),
    _Reader(demo_second_reader(), 3.0, 0.05, 9.0),
    _Reader(Actor("demo-third-reader", "Demo third reader", Role.READER), 4.0, 0.08, 4.0),
)


def decide(database_url: str, truth: Mapping[int, Mapping[int, Answer]]) -> int:
    """`truth`: study id to image id to the true answer, in the order in which the studies came. Returns how many images
    have been decided; those that are already are left."""
    made = _Past(database_url, truth)
    studies = list(truth)
    middle = len(studies) * 2 // 3
    made.rules(blind_first=False)
    made.first_reads(studies[:middle])
    made.second_reads()
    made.settle(leave=0)
    made.make_gold_cases()
    made.rules(blind_first=True)
    made.first_reads(studies[middle:])
    made.gold_reads()
    made.second_reads(disagree=True)
    made.settle(leave=1)
    made.rules_from_now_on()
    made.set_times()
    return made.decided


class _Past:
    def __init__(self, database_url: str, truth: Mapping[int, Mapping[int, Answer]]) -> None:
        self.database_url, self.truth = database_url, truth
        self.rng = np.random.default_rng([SEED, 2])
        self.answers = {image: answer for images in truth.values() for image, answer in images.items()}
        self.decided = 0
        self.given: Counter[str] = Counter()  # studies of each task

    def rules(self, *, blind_first: bool) -> None:
        """Blind first is tried for bone age, in the later weeks."""
        with session_scope(self.database_url) as session:
            for task in Task:
                is_blind = blind_first and task is Task.BONE_AGE
                quality_rules.set_rule(session, demo_admin(), Rule(task, is_blind, READ_TWICE[task], GOLD_EVERY))

    def rules_from_now_on(self) -> None:
        with session_scope(self.database_url) as session:
            for task in Task:
                quality_rules.set_rule(session, demo_admin(), Rule(task, **FROM_NOW_ON))

    def first_reads(self, study_ids: Iterable[int]) -> None:
        with session_scope(self.database_url) as session:
            for study_id in study_ids:
                reader = self._next_reader(study_id)
                for image in _images(session, reader, study_id):
                    if image.decision is None and image.withheld is None and image.image_id in self.answers:
                        self.decided += 1
                        self._decide(session, reader, study_id, image, rejected=self.decided % REJECT_EVERY == 0)

    def second_reads(self, *, disagree: bool = False) -> None:
        """`disagree`: about the last bone age, beyond what two readings differ by."""
        with session_scope(self.database_url) as session:
            cases = self._open(session, BlindKind.SECOND)
            hands = [case for case in cases if self.answers[case.image_fk]["task"] == Task.BONE_AGE]
            first_readers = repository.usernames(session, [case.first_reader_fk for case in cases])
            for case in cases:
                others = [one for one in READERS if one.name != first_readers[case.first_reader_fk]]
                reader = others[int(self.rng.integers(len(others)))]
                [image] = [i for i in _images(session, reader, case.study_fk) if i.image_id == case.image_fk]
                own = None
                if disagree and hands and case is hands[-1]:
                    first = repository.first_answer(session, case)
                    own = _far_from(first or self.answers[case.image_fk])
                self._decide(session, reader, case.study_fk, image, own=own)

    def gold_reads(self) -> None:
        with session_scope(self.database_url) as session:
            cases = self._open(session, BlindKind.GOLD)
            names = repository.usernames(session, [case.reader_fk for case in cases])
            for case in cases:
                [reader] = [one for one in READERS if one.name == names[case.reader_fk]]
                [image] = [i for i in _images(session, reader, case.study_fk) if i.image_id == case.image_fk]
                self._decide(session, reader, case.study_fk, image)

    def settle(self, *, leave: int) -> None:
        """The disagreements, but the latest `leave`."""
        with session_scope(self.database_url) as session:
            found = adjudication.disputes(session, demo_adjudicator())
            for dispute in found[: len(found) - leave]:
                ruling = Ruling(self.answers[dispute.image_id], seconds=self._seconds(12.0))
                adjudication.settle(session, demo_adjudicator(), dispute.case_id, ruling)

    def make_gold_cases(self) -> None:
        with session_scope(self.database_url) as session:
            for task in Task:
                candidates = [one for one in gold_cases.candidates(session, demo_admin()) if one.task is task]
                for one in candidates[:GOLD_OF_A_TASK]:
                    gold_cases.make_gold(session, demo_admin(), one.image_id, one.why)

    def set_times(self) -> None:
        """The studies came over the last weeks, and were decided some hours later; the audit trail keeps the time at
        which the demo was made."""
        now = utc_now()
        step = timedelta(weeks=WEEKS) / len(self.truth)
        changed: list[Base] = []
        with session_scope(self.database_url) as session, writing(session):
            for number, study_id in enumerate(self.truth):
                received = now - step * (len(self.truth) - number) + step * self.rng.uniform(0, 0.9)
                read = received + timedelta(minutes=self.rng.uniform(1, 9))
                decided = read + timedelta(hours=self.rng.gamma(1.5, 5))
                changed += _set_times(session, study_id, received, read, decided, now)
            session.flush()
            answer_facts.refresh(session, list(self.answers))
            detail = {"studies": len(self.truth), "weeks": WEEKS} | audit.fixed(*changed)
            audit.record(session, service_actor("demo"), "demo.times_set", "demo", detail)

    # ------------------------------------------------------------ one decision

    def _next_reader(self, study_id: int) -> _Reader:
        """Each has a third of every task."""
        task = next(iter(self.truth[study_id].values()))["task"]
        self.given[task] += 1
        return READERS[self.given[task] % len(READERS)]

    def _decide(
        self,
        session: Session,
        reader: _Reader,
        study_id: int,
        image: ImageView,
        *,
        own: Answer | None = None,
        rejected: bool = False,
    ) -> None:
        seconds = self._seconds(reader.pace)
        if rejected:
            reason, comment = REJECTED[self.decided // REJECT_EVERY % len(REJECTED)]
            decision = Decision(Verdict.REJECTED, reject_reason=reason, comment=comment)
        else:
            insists, own = own is not None, own or self._own_answer(reader, self.answers[image.image_id])
            if image.read_hidden:
                blind_reading.give_blind_answer(session, reader.actor, image.image_id, own, seconds * 0.7)
                [image] = [i for i in _images(session, reader, study_id) if i.image_id == image.image_id]
                if image.read and image.read.answer and not insists and self.rng.random() < FOLLOWS_THE_READ:
                    own = image.read.answer
            decision = decision_about(image, own, str(self.rng.choice(REASONS[Task(own["task"])])))
        decision = replace(decision, prediction_id=image.read.prediction_id if image.read else None,
                           seen_review_id=image.seen_review_id, seconds=seconds)  # fmt: skip
        review.record_review(session, reader.actor, image.image_id, decision)

    def _own_answer(self, reader: _Reader, truth: Answer) -> Answer:
        """The truth, or near it."""
        if truth["task"] == Task.BONE_AGE:
            months = round(self.rng.normal(int(truth["bone_age_months"]), reader.spread_months))
            return bone_age_answer(int(np.clip(months, 0, MAX_BONE_AGE_MONTHS)))
        if self.rng.random() >= reader.slips:
            return truth
        near = [one for one in ALLOWED[truth["task"]] if sum(one[name] != truth[name] for name in truth) == 1]
        return near[int(self.rng.integers(len(near)))] if near else truth

    def _seconds(self, pace: float) -> float:
        return round(4 + float(self.rng.gamma(3, pace / 3)) * 3, 1)

    def _open(self, session: Session, kind: BlindKind) -> list[BlindCase]:
        return [case for case in blind_repository.open_cases(session, kind) if case.image_fk in self.answers]


def decision_about(image: ImageView, own: Answer, reason: str | None = None) -> Decision:
    """Of a reader whose own answer this is: the read where it is near enough."""
    if image.read is not None and image.read.answer is not None and _is_close(image.read.answer, own):
        return Decision(Verdict.CONFIRMED)
    return Decision(Verdict.CORRECTED, answer=own, comment=reason)


def _is_close(answer: Answer, own: Answer) -> bool:
    if own["task"] == Task.BONE_AGE:
        return abs(int(answer["bone_age_months"]) - int(own["bone_age_months"])) <= CLOSE_ENOUGH_MONTHS
    return answer == own


def _far_from(first: Answer) -> Answer:
    months = int(first["bone_age_months"])
    apart = 2 * TWO_READINGS_DIFFER_MONTHS
    return bone_age_answer(months - apart if months > apart else months + apart)


def _images(session: Session, reader: _Reader, study_id: int) -> tuple[ImageView, ...]:
    return review.load_study(session, reader.actor, study_id).images


def _set_times(
    session: Session, study_id: int, received: datetime, read: datetime, decided: datetime, now: datetime
) -> list[Base]:
    """Of all that happened to the study: a second reader comes a day after the first, a ruling a day after that.
    Returns the rows that the audit log has fixed."""
    day = timedelta(days=1)

    def at(moment: datetime, steps: int) -> datetime:
        return min(moment + steps * day, now)

    study, images, films = repository.study_with_films(session, study_id)
    study.received_at = received
    for film in films:
        film.received_hour = answer_facts.hour_of(received)
    changed: list[Base] = []
    for prediction in repository.reads_of(session, images):
        prediction.created_at = read
        changed.append(prediction)
    for review_ in repository.reviews_of(session, images):
        review_.created_at = at(decided, 2 * (review_.revision - 1))
        changed.append(review_)
    for answer in repository.blind_answers_of(session, images):
        answer.created_at = at(decided, 0)
        changed.append(answer)
    for case, reads in repository.blind_cases_of(session, images):
        later = 1 if case.kind == BlindKind.SECOND else 7
        case.created_at = at(decided, 0)
        for one in reads:
            one.created_at = at(decided, later)
            changed.append(one)
    return changed
