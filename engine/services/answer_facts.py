"""Every answer beside the one that judges it, flattened for the dashboards (db.models.AnswerFact).

What an image's facts are follows from its rows alone, so they are written whole: `refresh` in the transaction of
whatever changed, `fill_missing` for a database that had reads before it had facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from db.models import (
    AnswerKind,
    BlindAnswer,
    BlindCase,
    BlindKind,
    BlindRead,
    BlindState,
    GoldCase,
    Image,
    Influence,
    Prediction,
    Review,
    ShadowRead,
    Verdict,
)
from db.repositories import answer_facts as repository
from db.session import session_scope, writing
from engine.findings.answers import Answer, Task
from engine.radiology_metrics import FRACTURE_CLASSES, ROP_CLASSES

PROBABILITY_STEPS = 10_000
NOBODY = NO_READ = 0
AT_ONCE = 500  # images

# task -> field of its answer -> its classes, each of which has a column of its own
CLASSES: dict[Task, dict[str, tuple[str, ...]]] = {
    Task.BONE_AGE: {},
    Task.ROP: {name: tuple(kind.value for kind in kinds) for name, kinds in ROP_CLASSES.items()},
    Task.FRACTURE: {"fracture": FRACTURE_CLASSES},
}
ORDERED = ("zone", "stage", "plus_disease")  # fields whose classes stand in their order


def score_column(name: str, kind: str) -> str:
    """Of AnswerFact: the probability that the read gives to class `kind` of field `name`."""
    return f"{name}_{kind.lower()}"


def refresh(session: Session, image_ids: Sequence[int]) -> None:
    """Make the facts of these images anew, within the caller's transaction."""
    session.flush()
    for start in range(0, len(image_ids), AT_ONCE):
        some = image_ids[start : start + AT_ONCE]
        repository.replace(session, some, [row for record in _records(session, some) for row in facts_of(record)])


def fill_missing(database_url: str) -> int:
    """Facts for images that were read or decided before there were facts; returns how many images."""
    filled = last = 0
    with session_scope(database_url) as session:
        while image_ids := repository.images_without_facts(session, last, AT_ONCE):
            with writing(session):
                refresh(session, image_ids)
            session.expunge_all()
            filled, last = filled + len(image_ids), image_ids[-1]
    return filled


@dataclass(frozen=True)
class ImageRecord:
    """All that an image's facts follow from: reviews and reads from the first one on, the blind reads that stand."""

    image: Image  # with its study and patient
    reviews: Sequence[Review]
    predictions: Sequence[Prediction]
    shadow_reads: Sequence[ShadowRead]
    blind_answers: Sequence[BlindAnswer]
    blind_reads: Sequence[tuple[BlindCase, BlindRead, Review | None, GoldCase | None]]


def _records(session: Session, image_ids: Sequence[int]) -> list[ImageRecord]:
    reviews = repository.by_image(session, Review, image_ids, Review.revision)
    predictions = repository.by_image(session, Prediction, image_ids, Prediction.id)
    shadow_reads = repository.by_image(session, ShadowRead, image_ids, ShadowRead.id)
    blind_answers = repository.by_image(session, BlindAnswer, image_ids, BlindAnswer.id)
    blind_reads = repository.blind_reads_by_image(session, image_ids)
    return [
        ImageRecord(image, *(rows.get(image.id, []) for rows in (reviews, predictions, shadow_reads, blind_answers)),
                    blind_reads.get(image.id, []))
        for image in repository.images_with_children(session, image_ids)
    ]  # fmt: skip


def facts_of(record: ImageRecord) -> Iterator[dict[str, Any]]:
    """Rows of answer_fact; none where nobody knows the task."""
    image, study = record.image, record.image.study
    if study.task is None:
        return
    latest = record.reviews[-1] if record.reviews else None
    in_force = None if latest is None or latest.verdict == Verdict.WITHDRAWN else latest
    child = {
        "task": study.task,
        "patient_fk": study.patient_fk,
        "image_fk": image.id,
        "site": study.site,
        "sex": study.patient.sex,
        "age_months": study.age_months,
        "is_phantom": study.is_phantom,
        "reader_fk": NOBODY,
    }
    reads = _latest_by_version(record, Task(study.task))
    shown = next((read for read in reversed(record.predictions) if read.read_round == image.read_round), None)
    if in_force is None:
        yield from (
            child | _model_fact(read, is_shown=read is shown) | {"is_in_force": False} for read in reads.values()
        )
    for review in _standing(record.reviews):
        if review.answer is not None and review.answer["task"] != study.task:
            continue  # decided before the case got another task
        read = next((one for one in record.predictions if one.id == review.prediction_fk), None)
        read = read if read is not None and read.task == study.task else None
        decided = child | _decision(review) | {"is_in_force": review is in_force}
        if review is in_force:
            waited = record.reviews[0].created_at - study.received_at
            decided["turnaround_minutes"] = max(0, int(waited.total_seconds() // 60))
            for other in reads.values():
                if read is None or other.model_version_fk != read.model_version_fk:
                    yield decided | _model_fact(other, review.answer, is_shown=False)
        yield decided | _model_fact(read, review.answer, is_shown=True)
        blind = next((one for one in record.blind_answers if one.id == review.blind_answer_fk), None)
        if blind is not None and review.answer is not None:
            yield (
                decided
                | _beside(AnswerKind.BLIND, blind.answer, review.answer)
                | {
                    "model_version_fk": read.model_version_fk if read else NO_READ,
                    "influence": influence(blind.answer, read.answer if read else None, review.answer),
                }
            )
    yield from (child | fact for fact in _blind_facts(record))


def _latest_by_version(record: ImageRecord, task: Task) -> dict[int, Prediction | ShadowRead]:
    """A version's own prediction before what it said as a shadow."""
    reads = [*record.shadow_reads, *record.predictions]
    return {read.model_version_fk: read for read in reads if read.task == task}


def _standing(reviews: Sequence[Review]) -> list[Review]:
    """Every reader's last decision that was not taken back."""
    by_id = {review.id: review for review in reviews}
    standing: dict[int, Review] = {}
    for review in reviews:
        if review.verdict == Verdict.WITHDRAWN:
            standing.pop(by_id[review.supersedes_id].reader_fk, None)
        else:
            standing[review.reader_fk] = review
    return list(standing.values())


def _decision(decision: Review | BlindRead) -> dict[str, Any]:
    at = decision.created_at.astimezone(UTC)
    return {
        "reader_fk": decision.reader_fk,
        "decided_hour": hour_of(at),
        "decided_month": at.year * 12 + at.month - 1,
        "verdict": decision.verdict,
        "reject_reason": decision.reject_reason,
        "seconds_tenths": None if decision.seconds is None else round(decision.seconds * 10),
    }


def _blind_facts(record: ImageRecord) -> Iterator[dict[str, Any]]:
    """What second readers and readers of gold cases said, beside what they did not know."""
    for case, read, first, gold in record.blind_reads:
        known = gold.answer if case.kind == BlindKind.GOLD and gold else first.answer if first else None
        if case.state == BlindState.VOID or read.answer is None or known is None:
            continue
        if read.answer["task"] != known["task"] or known["task"] != record.image.study.task:
            continue
        kind = AnswerKind.GOLD if case.kind == BlindKind.GOLD else AnswerKind.SECOND
        yield (
            _decision(read)
            | _beside(kind, read.answer, known)
            | {
                "first_reader_fk": case.first_reader_fk,
                "model_version_fk": NO_READ,
                "is_in_force": False,
            }
        )


def _beside(kind: AnswerKind, answer: Answer, known: Answer) -> dict[str, Any]:
    """A person's answer in the place of the read."""
    return {"kind": kind, "is_shown": False, "is_answered": True, **_answers(answer, known)}


def _model_fact(read: Prediction | ShadowRead | None, label: Answer | None = None, *, is_shown: bool) -> dict[str, Any]:
    is_answered = read is not None and read.answer is not None
    fact = {
        "kind": AnswerKind.MODEL,
        "model_version_fk": NO_READ,
        "is_shown": is_shown,
        "is_answered": is_answered,
        **_answers(None, label),
    }
    if read is None:
        return fact
    fact |= {"model_version_fk": read.model_version_fk, "read_hour": hour_of(read.created_at)}
    if is_answered:
        fact |= _answers(read.answer, label) | _probabilities(read, label)
    return fact


def _answers(answer: Answer | None, label: Answer | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for prefix, said in (("read", answer), ("label", label)):
        for name, value in (said or {}).items():
            if name != "task":
                found[f"{prefix}_months" if name == "bone_age_months" else f"{prefix}_{name}"] = value
    return found


def _probabilities(read: Prediction | ShadowRead, label: Answer | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if read.task == Task.BONE_AGE:
        found = {"interval_low_months": read.interval_low_months, "interval_high_months": read.interval_high_months}
        if label is not None and read.probabilities:
            of_months = [read.probabilities.get(str(month), 0.0) for month in range(label["bone_age_months"] + 1)]
            found |= {"below_label": _steps(sum(of_months[:-1])), "through_label": _steps(sum(of_months))}
    for name, kinds in CLASSES[Task(read.task)].items():
        shares = read.probabilities if name == "fracture" else read.probabilities.get(name, {})
        if shares.keys() >= set(kinds):
            found |= {score_column(name, kind): _steps(shares[kind]) for kind in kinds}
            found[f"sure_{name}"] = _steps(shares[read.answer[name]])
    return found


def influence(blind: Answer, read: Answer | None, final: Answer) -> Influence | None:
    """What seeing the read did. None where there was none, or for another task."""
    if read is None or not blind["task"] == read["task"] == final["task"]:
        return None
    if blind == read:
        return Influence.AGREED if final == blind else Influence.OTHERWISE
    if final == blind:
        return Influence.KEPT
    return Influence.TOWARDS if _apart(final, read) < _apart(blind, read) else Influence.OTHERWISE


def _apart(one: Answer, other: Answer) -> int:
    """Months, or in how many fields they differ."""
    if "bone_age_months" in one:
        return abs(int(one["bone_age_months"]) - int(other["bone_age_months"]))
    return sum(value != other[name] for name, value in one.items())


def hour_of(at: datetime) -> int:
    """Hours since 1970, UTC."""
    return int(at.timestamp() // 3600)


def _steps(probability: float) -> int:
    return round(min(1.0, probability) * PROBABILITY_STEPS)
