"""Where two readers looked at one image: do they agree, and has it been settled who is right?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from db.models import BlindRead, Role, Verdict
from engine.findings.answers import Answer, Task
from engine.findings.bone_age import TWO_READINGS_DIFFER_MONTHS
from engine.services.annotation_folder import Decided

SETTLERS = (Role.ADJUDICATOR, Role.ADMIN)  # whose decision ends a disagreement


@dataclass(frozen=True)
class Agreement:
    """Images that two or more readers have answered."""

    task: Task
    images: int
    agreeing: int
    mean_difference_months: float | None  # bone age only


def open_question(history: list[Decided], second_reads: Sequence[BlindRead] = ()) -> str | None:
    """Why the latest decision about an image is in doubt; None where it is not. `history`: from the first one on;
    `second_reads`: what blind second readers say beside it."""
    if history[-1][0].reader.role in SETTLERS:
        return None
    answers = standing_answers(history, second_reads)
    if None in answers.values() and len(answers) > 1:
        return "one reader rejected the image and another one answered: an adjudicator must decide"
    if not all(agree(one, other) for one, other in combinations(answers.values(), 2)):
        return "two readers gave different answers: an adjudicator must decide"
    return None


def standing_answers(history: list[Decided], second_reads: Sequence[BlindRead] = ()) -> dict[str, Answer | None]:
    """Reader -> their last answer that they did not take back; None: they rejected the image. A decision about the case
    itself before a blind one."""
    by_id = {review.id: review for review, *_ in history}
    standing: dict[str, Answer | None] = {read.reader.pseudonym: read.answer for read in second_reads}
    for review, *_ in history:
        if review.verdict == Verdict.WITHDRAWN:
            standing.pop(by_id[review.supersedes_id].reader.pseudonym, None)
        else:
            standing[review.reader.pseudonym] = review.answer
    return standing


def agree(one: Answer, other: Answer) -> bool:
    if one["task"] == other["task"] == Task.BONE_AGE:
        return abs(int(one["bone_age_months"]) - int(other["bone_age_months"])) <= TWO_READINGS_DIFFER_MONTHS
    return one == other


def agreement(histories: Iterable[list[Decided]], second_reads: Mapping[int, Sequence[BlindRead]]) -> list[Agreement]:
    """Of all images that two or more readers answered, whoever settled them. `second_reads` by image."""
    images_, agreeing, months = Counter(), Counter(), []
    for history in histories:
        standing = standing_answers(history, second_reads.get(history[0][1].id, ()))
        answers = [answer for answer in standing.values() if answer is not None]
        if len(answers) < 2 or len({answer["task"] for answer in answers}) > 1:
            continue
        task = Task(answers[0]["task"])
        images_[task] += 1
        agreeing[task] += all(agree(one, other) for one, other in combinations(answers, 2))
        if task is Task.BONE_AGE:
            pairs = list(combinations([int(answer["bone_age_months"]) for answer in answers], 2))
            months.append(sum(abs(one - other) for one, other in pairs) / len(pairs))
    difference = round(sum(months) / len(months), 1) if months else None
    return [
        Agreement(task, images_[task], agreeing[task], difference if task is Task.BONE_AGE else None)
        for task in Task
        if images_[task]
    ]
