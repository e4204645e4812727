"""Do reads or films look different lately? Recent ones against those of the months before: Jensen-Shannon divergence.

An alert needs both: far enough apart to matter (ALERT_BITS, a convention, unverified), and too far to be chance
(ALERT_P, G-test). A change of model, of a site or of the season moves the distribution as well as a fault does: an
alert asks somebody to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case
from sqlalchemy.orm import Session

from db.models import AnswerFact, AnswerKind, FilmStatistics, Study
from db.repositories import figures as repository
from engine.clustered_figures import Divergence, jensen_shannon
from engine.dashboard_sheet import LEAST_CASES
from engine.findings.answers import Task
from engine.findings.summary import TASK_WORDS
from engine.services.answer_facts import NOBODY
from engine.services.figure_filters import FigureFilter

RECENT_DAYS, BEFORE_DAYS = 14, 90
ALERT_BITS, ALERT_P = 0.05, 0.01
NO_READ = "no read"
AGE_BIN_MONTHS = 12
READ_FIELDS = {
    Task.BONE_AGE: {"bone age": AnswerFact.read_months // AGE_BIN_MONTHS},
    Task.ROP: {"zone": AnswerFact.read_zone, "stage": AnswerFact.read_stage, "plus": AnswerFact.read_plus_disease},
    Task.FRACTURE: {"fracture": AnswerFact.read_fracture},
}
# edges of the bins, fixed so that no sample decides them
TWENTIETHS = tuple(i / 20 for i in range(1, 20))
FILM_EDGES = {
    "mean grey": (FilmStatistics.mean, TWENTIETHS),
    "contrast": (FilmStatistics.spread, tuple(i / 50 for i in range(1, 25))),
    "share of black": (FilmStatistics.dark_share, TWENTIETHS),
    "sharpness": (FilmStatistics.sharpness, tuple(i / 250 for i in range(1, 25))),
}


@dataclass(frozen=True)
class Drift:
    """`n_recent` against `n_before`; `found` None where either is too small or both lie in one class."""

    of: str
    n_recent: int
    n_before: int
    found: Divergence | None

    @property
    def n(self) -> int:
        return self.n_recent + self.n_before

    @property
    def is_alert(self) -> bool:
        return self.found is not None and self.found.bits.value >= ALERT_BITS and self.found.p_value < ALERT_P


def of_reads(session: Session, filter: FigureFilter, now_hour: int) -> list[Drift]:
    """Of what the model answers, a read without an answer included; each image's shown read."""
    recent = AnswerFact.read_hour >= now_hour - 24 * RECENT_DAYS
    where = [
        AnswerFact.kind == AnswerKind.MODEL,
        AnswerFact.is_shown,
        AnswerFact.is_in_force | (AnswerFact.reader_fk == NOBODY),
        AnswerFact.read_hour >= now_hour - 24 * (RECENT_DAYS + BEFORE_DAYS),
        AnswerFact.read_hour <= now_hour,
    ]
    if filter.sites:
        where.append(AnswerFact.site.in_(filter.sites))
    drifts = []
    for task in Task if filter.all_tasks else [filter.task]:
        fields = READ_FIELDS[task]
        is_recent = case((recent, 1), else_=0)
        counts = repository.histogram(
            session, [AnswerFact.task == task, *where], [is_recent, AnswerFact.is_answered, *fields.values()]
        )
        for i, name in enumerate(fields):
            label = name if name in (TASK_WORDS[task], "bone age") else f"{TASK_WORDS[task]}, {name}"
            by_class: dict[object, list[int]] = {}
            for (late, answered, *values), count in counts.items():
                of_class = values[i] if answered else NO_READ
                by_class.setdefault(of_class, [0, 0])[late] += count
            drifts.append(_drift(label, list(by_class.values())))
    return drifts


def of_films(session: Session, filter: FigureFilter, now_hour: int) -> list[Drift]:
    """Of what the pixels of the films received are like."""
    of_study: list[ColumnElement[bool]] = [] if filter.all_tasks else [Study.task == filter.task]
    if filter.sites:
        of_study.append(Study.site.in_(filter.sites))
    start, middle = now_hour - 24 * (RECENT_DAYS + BEFORE_DAYS), now_hour - 24 * RECENT_DAYS
    drifts = []
    for name, (statistic, edges) in FILM_EDGES.items():
        counts = repository.film_bins(session, of_study, statistic, edges, start, middle, now_hour)
        drifts.append(_drift(name, [list(pair) for pair in counts]))
    return drifts


def _drift(of: str, counts: Sequence[Sequence[int]]) -> Drift:
    """`counts`: of each class, cases before and recent ones."""
    before, recent = ([pair[i] for pair in counts] for i in (0, 1))
    n_before, n_recent = sum(before), sum(recent)
    found = jensen_shannon(before, recent) if min(n_before, n_recent) >= LEAST_CASES else None
    return Drift(of, n_recent, n_before, found)
