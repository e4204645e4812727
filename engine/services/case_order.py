"""Which case a model could learn most from: where it is unsure, where answers differ, where few decisions exist.

    value of the case itself   0.6 uncertainty + 0.4 disagreement, stored when it is read or decided (Study.learn_value)
    value of its group         10 / (10 + decisions on children of the same task, sex, age band and site)
    order                      urgent cases first, by their time; then 0.7 x the case itself + 0.3 x its group

All shares are defaults of this workstation, chosen so that an unsure read counts most; nobody has measured that they
teach a model fastest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log
from typing import Any

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from db.models import URGENCY_RANK, Prediction, Study, StudyStatus, Urgency
from db.repositories.studies import EVERYTHING, SeenColumns
from engine.findings.answers import Answer, Task
from engine.services.reader_agreement import agree
from engine.subgroups import UNKNOWN, age_band, sex_name

UNSURE_INTERVAL_MONTHS = 48  # an 80 % interval of the bone age as wide as this counts as knowing nothing
FAR_APART_MONTHS = 24  # two bone ages as far apart as this disagree fully
RARE_BELOW = 10  # a group with as many decisions has half the value of one with none

UNCERTAINTY_SHARE, DISAGREEMENT_SHARE = 0.6, 0.4
CASE_SHARE, GROUP_SHARE = 0.7, 0.3

PRESSING = URGENCY_RANK[Urgency.URGENT]

UNSURE_FROM, DIFFERS_FROM, RARE_UP_TO = 0.5, 0.3, RARE_BELOW  # what is worth a word beside the case


@dataclass(frozen=True)
class LearnValue:
    """`uncertainty` and `disagreement` from 0 to 1."""

    uncertainty: float
    disagreement: float

    @property
    def total(self) -> float:
        return UNCERTAINTY_SHARE * self.uncertainty + DISAGREEMENT_SHARE * self.disagreement


def learn_value(reads: Sequence[Prediction], other_answers: Iterable[Sequence[Answer]]) -> LearnValue | None:
    """Of a study: that of its most telling image. `reads`: the latest of each image; None before the first one.
    `other_answers`: for each image all answers given by anybody, model versions and readers."""
    if not reads:
        return None
    return LearnValue(
        max(uncertainty(read) for read in reads),
        max((disagreement(answers) for answers in other_answers), default=0.0),
    )


def uncertainty(read: Prediction) -> float:
    """0: sure; 1: it cannot tell, or gave no answer."""
    if read.answer is None:
        return 1.0
    if read.task == Task.BONE_AGE:
        low, high = read.interval_low_months, read.interval_high_months
        return 1.0 if low is None or high is None else min(1.0, (high - low) / UNSURE_INTERVAL_MONTHS)
    if read.task == Task.ROP:
        return max(
            (_entropy(shares) for shares in read.probabilities.values() if isinstance(shares, dict)), default=1.0
        )
    return _entropy(read.probabilities)


def _entropy(shares: Mapping[str, float]) -> float:
    """Of a distribution over a closed set, as a share of the greatest possible; 1 where there is none."""
    if len(shares) < 2:
        return 1.0
    return -sum(share * log(share) for share in shares.values() if share > 0) / log(len(shares))


def disagreement(answers: Sequence[Answer]) -> float:
    """0: all answers about one image agree; 1: two of them could hardly differ more."""
    return max((_difference(one, other) for one, other in combinations(answers, 2)), default=0.0)


def _difference(one: Answer, other: Answer) -> float:
    if agree(one, other):
        return 0.0
    if one["task"] == other["task"] == Task.BONE_AGE:
        return min(1.0, abs(int(one["bone_age_months"]) - int(other["bone_age_months"])) / FAR_APART_MONTHS)
    return 1.0


def group_of(task: Task | None, sex: str | None, age_months: float | None, site: str | None) -> str | None:
    """ "fracture, boys, 5-9 y, Site B": whom the child stands for. None without a task."""
    if task is None:
        return None
    task = Task(task)
    band = age_band(task, age_months)
    return ", ".join(
        [
            task.value.replace("_", " "),
            "sex unknown" if sex is None else sex_name(sex),
            "age unknown" if band == UNKNOWN else band,
            site or "site unknown",
        ]
    )[:200]


def group_counts(session: Session, seen: SeenColumns = EVERYTHING) -> dict[str, int]:
    """Group -> how many of its studies readers have answered, as far as the reader may know."""
    query = (
        select(Study.learn_group, func.count())
        .where(seen.status == StudyStatus.REVIEWED, Study.learn_group.is_not(None))
        .group_by(Study.learn_group)
    )
    return {group: count for group, count in session.execute(query)}


def without(counts: Mapping[str, int], study: Study) -> Mapping[str, int]:
    """The counts before the study was decided."""
    if study.status != StudyStatus.REVIEWED or study.learn_group is None:
        return counts
    return {**counts, study.learn_group: counts.get(study.learn_group, 1) - 1}


def group_value(decided: int) -> float:
    return RARE_BELOW / (RARE_BELOW + decided)


def order_columns(counts: Mapping[str, int], seen: SeenColumns = EVERYTHING) -> tuple[tuple[ColumnElement, bool], ...]:
    """For db.repositories.studies.Order: urgent ones by their time, then what teaches most; not yet read ones last.
    `value_in` gives the same values of one study."""
    is_pressing = seen.urgency_rank >= PRESSING
    groups = {group: group_value(count) for group, count in counts.items()} or {"": 1.0}
    of_group = case(groups, value=Study.learn_group, else_=group_value(0))
    return (
        (case((is_pressing, seen.urgency_rank), else_=0).label("pressing"), True),
        (case((is_pressing, seen.act_by)).label("deadline"), False),
        ((CASE_SHARE * Study.learn_value + GROUP_SHARE * of_group).label("value"), True),
    )


def value_in(name: str, study: Any, counts: Mapping[str, int]) -> Any:
    """Of `study`, or of something with its columns."""
    is_pressing = study.urgency_rank >= PRESSING
    if name == "pressing":
        return study.urgency_rank if is_pressing else 0
    if name == "deadline":
        return study.act_by if is_pressing else None
    if study.learn_value is None:
        return None
    return CASE_SHARE * study.learn_value + GROUP_SHARE * group_value(counts.get(study.learn_group or "", 0))


def reason(read: Sequence[Prediction], value: LearnValue, group: str | None, counts: Mapping[str, int]) -> str:
    """Why a case stands where it stands, in words."""
    said = []
    if any(one.answer is None for one in read):
        said.append("the model gave no answer")
    elif value.uncertainty >= UNSURE_FROM:
        said.append("the model is unsure")
    if value.disagreement >= DIFFERS_FROM:
        said.append("answers differ")
    decided = counts.get(group or "", 0)
    if group is not None and decided < RARE_UP_TO:
        child = group.partition(", ")[2] or group  # what is examined stands beside it
        said.append(f"rare: {child} ({decided} decided)")
    return "; ".join(said)
