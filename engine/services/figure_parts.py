"""What the dashboards' figures share: from what the database counted to the points of a chart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session, aliased

from db.models import AnswerFact
from db.repositories import figures as repository
from db.repositories.figures import Moments, Where
from engine.clustered_figures import Sums
from engine.dashboard_sheet import Line, Point, Series, enough, point
from engine.findings.answers import Task
from engine.radiology_metrics import Interval
from engine.services.answer_facts import NO_READ
from engine.services.figure_filters import Choices, FigureFilter, judged_reads
from engine.subgroups import SEX_NAMES, UNKNOWN, age_bands
from engine.targets import Target, targets_of

BY_CHILD = "95 % intervals, images of one child counted as one."
JUDGED_BY_READERS = (
    "A read is held against the decision in force. Readers saw the read before they decided, unless the task is read "
    "blind first; agreement is therefore flattering."
)

Estimate = Callable[[Sums], Interval]


def sums_of(moments: Moments, term: str) -> Sums:
    """The term's sum over the number of cases."""
    return Sums(
        moments.total[term],
        float(moments.n),
        moments.squares[term],
        moments.products[term],
        moments.nn,
        moments.children,
    )


def group_point(x: str, moments: Moments | None, term: str, estimate: Estimate) -> Point:
    """A group of too few cases or children has its n and no figure."""
    if moments is None:
        return Point(x, None, 0)
    if enough(moments.n, moments.children):
        return Point(x, None, moments.n)
    return point(x, estimate(sums_of(moments, term)), moments.n)


def month_name(month: int) -> str:
    """AnswerFact.decided_month as 2026-03."""
    return f"{month // 12}-{month % 12 + 1:02}"


def by_month(name: str, moments: Mapping[tuple, Moments], term: str, estimate: Estimate) -> Series:
    """From the first to the last month, those without a case too."""
    months = [month for (month,) in moments]
    span = range(min(months), max(months) + 1) if months else ()
    return Series(name, tuple(group_point(month_name(month), moments.get((month,)), term, estimate) for month in span))


def by_age_and_sex(task: Task, moments: Mapping[tuple, Moments], term: str, estimate: Estimate) -> tuple[Series, ...]:
    """`moments` by (sex, age band); a series a sex, whoever's is unknown last. Without those of whom no band has
    enough."""
    bands = [band for band in [*(name for _, name in age_bands(task)), UNKNOWN] if any(b == band for _, b in moments)]
    sexes = [sex for sex in (*SEX_NAMES, None) if any(s == sex for s, _ in moments)]
    series = (
        Series(
            SEX_NAMES.get(sex or "", f"sex {UNKNOWN}"),
            tuple(group_point(band, moments.get((sex, band)), term, estimate) for band in bands),
        )
        for sex in sexes
    )
    return tuple(one for one in series if any(p.y is not None for p in one.points))


def versions_of(filter: FigureFilter, found: Choices) -> list[tuple[int, str]]:
    """The version that is shown, and the one it is compared with."""
    ids = [filter.version_id or NO_READ, *([filter.other_version_id] if filter.other_version_id else [])]
    return [(version_id, found.version_name(version_id)) for version_id in dict.fromkeys(ids)]


def targets_for(filter: FigureFilter, found: Choices, figure: str) -> tuple[Target, ...]:
    phantom = (filter.version_id or NO_READ) in found.phantom_version_ids
    return tuple(targets_of(filter.task, figure, phantom=phantom))


def target_lines(targets: Sequence[Target]) -> tuple[Line, ...]:
    """One a level, unverified ones marked so where no other vouches for the level."""
    lines = {}
    for target in sorted(targets, key=lambda one: one.unverified):
        level, sign = (target.at_most, "at most") if target.at_most is not None else (target.at_least, "at least")
        shown = f"{level:g}"
        mark = " (unverified)" if target.unverified else " (phantoms)" if target.only_phantoms else ""
        lines.setdefault(level, Line(level, f"target {sign} {shown}{mark}", is_target=True))
    highest = max(lines, default=None)  # the labels of two levels close to each other would lie on one another
    return tuple(replace(line, is_labelled_below=level != highest) for level, line in lines.items())


def paired_moments(
    session: Session, filter: FigureFilter, terms: Callable[[type[AnswerFact], type[AnswerFact]], dict]
) -> Moments | None:
    """Over the images that both versions answered: `terms` of (this version's fact, the other's)."""
    other = aliased(AnswerFact)
    where: Where = [*judged_reads(filter), *same_case(other, filter.other_version_id or NO_READ)]
    return repository.moments(session, where, terms(AnswerFact, other)).get(())


def same_case(other: type[AnswerFact], version_id: int) -> list[ColumnElement[bool]]:
    same = ("task", "kind", "patient_fk", "image_fk", "reader_fk")
    return [
        *(getattr(other, name) == getattr(AnswerFact, name) for name in same),
        other.model_version_fk == version_id,
        other.is_answered,
    ]
