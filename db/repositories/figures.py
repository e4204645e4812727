"""What the dashboards ask the database. Everything is counted there; what comes back has as many rows as a chart has
places, but for a confusion matrix (a row a child and cell) and the scores of a ROC curve, whose ranks no sum can
replace: one narrow row a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, case, func, literal, select
from sqlalchemy.orm import Session

from db.models import AnswerFact, FilmStatistics, Quarantine, QuarantineState, Study, StudyStatus

Where = Sequence[ColumnElement[bool]]


@dataclass(frozen=True)
class Moments:
    """Of one group. `n` cases of so many `children`; `nn` the sum over children of their squared number of cases. Each
    term's `total`, and over children the sum of the square of the child's total and of its product with its cases."""

    n: int
    children: int
    nn: float
    total: dict[str, float]
    squares: dict[str, float]
    products: dict[str, float]


def moments(
    session: Session, where: Where, terms: Mapping[str, ColumnElement], by: Sequence[ColumnElement] = ()
) -> dict[tuple, Moments]:
    """By the values of `by`; one group, (), without it."""
    child = AnswerFact.patient_fk
    keys = [column.label(f"key_{i}") for i, column in enumerate(by)]
    inner = (
        select(*keys, func.count().label("n"), *(func.sum(term).label(f"t_{name}") for name, term in terms.items()))
        .where(*where)
        .group_by(*keys, child)
        .subquery()
    )
    inner_keys = [inner.c[key.name] for key in keys]
    n = inner.c.n
    of_terms = []
    for name in terms:
        t = inner.c[f"t_{name}"]
        of_terms += [func.sum(t), func.sum(t * t), func.sum(t * n)]
    query = select(*inner_keys, func.sum(n), func.count(), func.sum(n * n), *of_terms).group_by(*inner_keys)
    found = {}
    for row in session.execute(query):
        key, (cases, children, nn, *sums) = tuple(row[: len(keys)]), row[len(keys) :]
        if not cases:
            continue
        numbers = [float(value or 0) for value in sums]
        found[key] = Moments(
            int(cases), int(children), float(nn), *(dict(zip(terms, numbers[i::3], strict=True)) for i in range(3))
        )
    return found


def cells(session: Session, where: Where, cell: ColumnElement[int]) -> list[tuple[int, int, int]]:
    """(child, cell, cases) of every child and cell that has cases. Which of a child's cells lie together is left to the
    caller: joined in the database it took six times as long."""
    query = (
        select(AnswerFact.patient_fk, cell.label("cell"), func.count())
        .where(*where)
        .group_by(AnswerFact.patient_fk, "cell")
    )
    return _plain_rows(session, query)


def scores(session: Session, where: Where, label: ColumnElement, of_classes: Sequence[ColumnElement]) -> list[tuple]:
    """(child, label, score of each class) a case, child by child."""
    return _plain_rows(session, select(AnswerFact.patient_fk, label, *of_classes).where(*where))


def _plain_rows(session: Session, query: Select) -> list[tuple]:
    """The driver's own tuples: numpy takes four times as long over SQLAlchemy's rows."""
    return session.connection().execute(query).cursor.fetchall()


def histogram(session: Session, where: Where, by: Sequence[ColumnElement]) -> dict[tuple, int]:
    """How many cases have each combination of values."""
    query = select(*by, func.count()).where(*where).group_by(*by)
    return {tuple(row[:-1]): int(row[-1]) for row in session.execute(query)}


def is_any(session: Session, where: Where) -> bool:
    return session.scalar(select(AnswerFact.image_fk).where(*where).limit(1)) is not None


def is_any_study(session: Session, where: Where) -> bool:
    return session.scalar(select(Study.id).where(*where).limit(1)) is not None


def one_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


# ---------------------------------------------------------------- operations


def waiting(
    session: Session, where: Where, bounds: Sequence[tuple[str, datetime]]
) -> tuple[dict[tuple[str, StudyStatus], int], datetime | None]:
    """Open studies by how long they have waited: `bounds` are (name, received before), the oldest first. And when the
    oldest was received."""
    age = case(*((Study.received_at < before, name) for name, before in bounds), else_="")
    query = (
        select(age, Study.status, func.count(), func.min(Study.received_at))
        .where(Study.status.in_([StudyStatus.AWAITING_READ, StudyStatus.AWAITING_REVIEW]), *where)
        .group_by(age, Study.status)
    )
    rows = session.execute(query).all()
    counts = {(name, StudyStatus(status)): int(count) for name, status, count, _ in rows}
    return counts, min((oldest for *_, oldest in rows), default=None)


def quarantine_codes(session: Session) -> dict[str, int]:
    """Of the files that are in quarantine now."""
    query = (
        select(Quarantine.code, func.count()).where(Quarantine.state == QuarantineState.OPEN).group_by(Quarantine.code)
    )
    return {code: int(count) for code, count in session.execute(query)}


def film_bins(
    session: Session,
    where: Where,
    statistic: ColumnElement,
    edges: Sequence[float],
    start_hour: int,
    middle_hour: int,
    end_hour: int,
) -> list[tuple[int, int]]:
    """Of each bin (below an edge and not below the one before): films received before `middle_hour`, and since."""
    place = _bin(statistic, edges)
    late = case((FilmStatistics.received_hour >= middle_hour, 1), else_=0)
    query = (
        select(place, late, func.count())
        .select_from(FilmStatistics)
        .where(FilmStatistics.received_hour >= start_hour, FilmStatistics.received_hour <= end_hour)
        .group_by(place, late)
    )
    if where:
        query = query.join(Study, FilmStatistics.study_fk == Study.id).where(*where)
    counts = {(int(i), int(is_late)): int(count) for i, is_late, count in session.execute(query)}
    return [(counts.get((i, 0), 0), counts.get((i, 1), 0)) for i in range(len(edges) + 1)]


def _bin(value: ColumnElement, edges: Sequence[float], first: int = 0) -> ColumnElement[int]:
    """The number of the bin that `value` lies in, by halving: a film takes 5 comparisons among 24 edges, not 24."""
    if not edges:
        return literal(first)
    middle = len(edges) // 2
    below, above = _bin(value, edges[:middle], first), _bin(value, edges[middle + 1 :], first + middle + 1)
    return case((value < edges[middle], below), else_=above)
