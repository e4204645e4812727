"""The model dashboard of what has classes: zone, stage, plus disease, fracture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import ColumnElement, case
from sqlalchemy.orm import Session, aliased

from db.models import AnswerFact
from db.repositories import figures as repository
from db.repositories.figures import Where, one_if
from engine import clustered_figures as clustered
from engine.clustered_figures import Confusion, Ranking
from engine.dashboard_sheet import (
    LEAST_CASES,
    Chart,
    Point,
    Series,
    SheetBuilder,
    Tile,
    enough,
    not_enough,
    point,
)
from engine.findings.answers import Fracture, Plus, Task, Zone
from engine.radiology_metrics import CALIBRATION_BINS, Interval
from engine.services.answer_facts import CLASSES, NO_READ, ORDERED, PROBABILITY_STEPS, score_column
from engine.services.figure_filters import Choices, FigureFilter, judged_reads
from engine.services.figure_parts import (
    BY_CHILD,
    by_month,
    paired_moments,
    same_case,
    sums_of,
    target_lines,
    targets_for,
    versions_of,
)

FIELD_WORDS = {"zone": "zone", "stage": "stage", "plus_disease": "plus disease", "fracture": "fracture"}
CLASS_WORDS = {"preplus": "pre-plus", "distal_radius": "distal radius"}
# figures that a target may be set for (engine.targets), by field
MACRO_AUC = {"zone": "zone_auc", "fracture": "macro_auc", "stage": "stage_auc", "plus_disease": "plus_macro_auc"}
WATCHED = {
    "zone": (Zone.I, "zone_i_sensitivity"),
    "plus_disease": (Plus.PLUS, "plus_sensitivity"),
    "fracture": (Fracture.DISTAL_RADIUS, "distal_radius_sensitivity"),
}


def fields_of(task: Task) -> tuple[str, ...]:
    """What the answers of a task say, class by class."""
    return tuple(CLASSES[task])


def class_name(kind: str) -> str:
    return CLASS_WORDS.get(kind, kind)


def add_to(sheet: SheetBuilder, session: Session, filter: FigureFilter, found: Choices, name: str) -> int:
    """Field `name` of the task. Returns the number of cases."""
    kinds = CLASSES[filter.task][name]
    versions = versions_of(filter, found)
    wheres = {version: judged_reads(filter, version_id) for version_id, version in versions}
    shown = versions[0][1]
    confusion = confusion_of(session, wheres[shown], name, kinds)
    n = confusion.n
    sheet.missing = why_not_enough(confusion, name)
    if sheet.missing:
        wheres = {shown: wheres[shown]}
    of_shown, points = _rankings(session, wheres[shown], name, kinds)
    _tiles(sheet, confusion, of_shown, filter, found, name)
    sheet.chart(_roc(of_shown, points, confusion, name))
    sheet.chart(matrix(confusion, name, "decision", "read"))
    sheet.chart(_by_class(confusion, name, filter, found))
    right = {"right": one_if(_read(name) == _label(name))}
    targets = target_lines(targets_for(filter, found, f"{name}_accuracy"))
    series = tuple(
        by_month(version, repository.moments(session, where, right, [AnswerFact.decided_month]), "right",
                 clustered.share)
        for version, where in wheres.items()
    )  # fmt: skip
    sheet.chart(
        Chart("accuracy_by_month", "Same class over time", "line", n, "month of the decision", "share of reads",
              "share", series, targets, note=BY_CHILD, y_range=(0, 1))
    )  # fmt: skip
    sheet.chart(_reliability(session, wheres, name, n))
    if len(versions) > 1 and not sheet.missing:
        _comparison(sheet, session, filter, name)
    return n


def why_not_enough(confusion: Confusion, name: str) -> str | None:
    """Too few cases, or all with one label."""
    missing = enough(confusion.n, confusion.children)
    labels = [kind for kind, count in zip(confusion.classes, confusion.labelled, strict=True) if count]
    if missing is None and len(labels) < 2:
        missing = not_enough(confusion.n, f"all have {FIELD_WORDS[name]} {class_name(labels[0])}")
    return missing


def confusion_of(session: Session, where: Where, name: str, kinds: Sequence[str]) -> Confusion:
    """Of field `name`, label by answer."""
    cell = _number(_label(name), kinds) * len(kinds) + _number(_read(name), kinds)
    child, place, count = np.array(repository.cells(session, where, cell), np.int64).reshape(-1, 3).T
    return Confusion.of_cells(tuple(kinds), child, place, count)


def kappa_of(confusion: Confusion, name: str) -> Interval:
    """Weighted quadratically where the classes have an order: a stage 2 called 3 is not as wrong as one called 5."""
    return confusion.kappa(weighted=name in ORDERED)


def kappa_title(name: str) -> str:
    return "Weighted kappa" if name in ORDERED else "Kappa"


def _label(name: str) -> ColumnElement[str]:
    return getattr(AnswerFact, f"label_{name}")


def _read(name: str) -> ColumnElement[str]:
    return getattr(AnswerFact, f"read_{name}")


def _number(answer: ColumnElement[str], kinds: Sequence[str]) -> ColumnElement[int]:
    """Of the answer among the classes."""
    return case(*((answer == kind, i) for i, kind in enumerate(kinds[:-1])), else_=len(kinds) - 1)


def _rankings(
    session: Session, where: Where, name: str, kinds: Sequence[str]
) -> tuple[dict[str, Ranking], dict[str, list[tuple[float, float]]]]:
    """Of each class that occurs: its AUC and the points of its ROC curve."""
    columns = [getattr(AnswerFact, score_column(name, kind)) for kind in kinds]
    rows = repository.scores(session, [*where, columns[0].is_not(None)], _number(_label(name), kinds), columns)
    if not rows:
        return {}, {}
    table = np.array(rows, dtype=np.int64)  # (cases, child + label + scores)
    child = np.unique(table[:, 0], return_inverse=True)[1]
    rankings, points = {}, {}
    for i, kind in enumerate(kinds):
        positive, score = table[:, 1] == i, table[:, 2 + i]
        found = clustered.ranking(child, positive, score)
        if found is not None:
            rankings[kind], points[kind] = found, clustered.roc_points(positive, score)
    return rankings, points


def _tiles(
    sheet: SheetBuilder,
    confusion: Confusion,
    rankings: dict[str, Ranking],
    filter: FigureFilter,
    found: Choices,
    name: str,
) -> None:
    n = confusion.n

    def tile(key: str, title: str, figure: Interval, cases: int = n, unit: str = "", missing: str | None = None):
        if missing is None:
            sheet.tile(key, title, figure, cases, unit=unit, targets=targets_for(filter, found, key))
        else:
            sheet.tiles.append(Tile(key, title, figure, cases, unit=unit, missing=sheet.missing or missing))

    if name == "plus_disease":
        positives = int(confusion.labelled[confusion.classes.index(Plus.PLUS)])
        of_plus = rankings.get(Plus.PLUS)
        figure = of_plus.interval() if of_plus else Interval(None, None, None)
        too_few = not_enough(positives, "with plus disease") if positives < LEAST_CASES else None
        tile("plus_auc", "AUC of plus disease", figure, missing=too_few)
    else:
        tile(MACRO_AUC[name], f"Macro AUC of {FIELD_WORDS[name]}", clustered.macro_auc(list(rankings.values())))
    tile(f"{name}_accuracy", "Same class", confusion.accuracy(), unit="share")
    tile("macro_f1", "Macro F1", confusion.macro_f1())
    tile(f"{name}_kappa", kappa_title(name), kappa_of(confusion, name))
    if name in WATCHED:
        kind, key = WATCHED[name]
        positives = int(confusion.labelled[confusion.classes.index(kind)])
        too_few = not_enough(positives) if positives < LEAST_CASES else None
        title = f"Sensitivity, {FIELD_WORDS[name] + ' ' if name == 'zone' else ''}{class_name(kind)}"
        tile(key, title, confusion.sensitivity(kind), positives, "share", too_few)


def _roc(
    rankings: dict[str, Ranking], points: dict[str, list[tuple[float, float]]], confusion: Confusion, name: str
) -> Chart:
    """A class with too few cases, or too few others, has no curve."""
    series = []
    for kind, ranking in rankings.items():
        labelled = int(confusion.labelled[confusion.classes.index(kind)])
        if min(labelled, confusion.n - labelled) < LEAST_CASES:
            series.append(Series(f"{class_name(kind)}: {not_enough(labelled)}", (Point(0.0, None, labelled),)))
            continue
        auc = ranking.interval()
        words = f"{auc.value:.3f}" + (f" ({auc.low:.3f}-{auc.high:.3f})" if auc.low is not None else "")
        curve = tuple(Point(x, y, labelled) for x, y in points[kind])
        series.append(Series(f"{class_name(kind)}: AUC {words}, n = {labelled:,}", curve))
    return Chart(
        "roc", f"ROC of {FIELD_WORDS[name]}, each class against the others", "curve", confusion.n, "1 - specificity",
        "sensitivity", "share", tuple(series), diagonal=True, y_range=(0, 1),
        note=f"AUC with {BY_CHILD} Scores are compared in steps of {1 / PROBABILITY_STEPS:g}.",
    )  # fmt: skip


def matrix(confusion: Confusion, name: str, rows: str, columns: str) -> Chart:
    series = tuple(
        Series(
            class_name(label),
            tuple(
                Point(class_name(answer), float(count), int(count))
                for answer, count in zip(confusion.classes, row, strict=True)
            ),
        )
        for label, row in zip(confusion.classes, confusion.counts, strict=True)
    )
    return Chart(
        "confusion", f"Confusion of {FIELD_WORDS[name]}", "matrix", confusion.n, columns, rows, "count", series,
        note=f"Rows: {rows}; columns: {columns}. Counts.",
    )  # fmt: skip


def _by_class(confusion: Confusion, name: str, filter: FigureFilter, found: Choices) -> Chart:
    """F1, sensitivity and specificity; only where enough cases carry the label, and enough do not."""
    series = []
    for title, figure_of in (
        ("sensitivity", confusion.sensitivity), ("specificity", confusion.specificity), ("F1", confusion.f1)
    ):  # fmt: skip
        points = []
        for kind, labelled in zip(confusion.classes, confusion.labelled, strict=True):
            among = int(confusion.n - labelled) if title == "specificity" else int(labelled)
            if min(labelled, confusion.n - labelled) < LEAST_CASES:
                points.append(Point(class_name(kind), None, among))
            else:
                points.append(point(class_name(kind), figure_of(kind), among))
        series.append(Series(title, tuple(points)))
    targets = targets_for(filter, found, WATCHED[name][1]) if name in WATCHED else ()
    if name == "fracture":
        targets += targets_for(filter, found, "macro_f1")
    return Chart(
        "by_class", "By class", "bars", confusion.n, FIELD_WORDS[name], "share", "share", tuple(series),
        target_lines(targets), note=BY_CHILD, y_range=(0, 1),
    )  # fmt: skip


def _reliability(session: Session, wheres: dict[str, Where], name: str, n: int) -> Chart:
    """Of the reads that were so sure, how many were right: bins (low, high] of equal width."""
    sure = getattr(AnswerFact, f"sure_{name}")
    width = PROBABILITY_STEPS // CALIBRATION_BINS
    terms = {"right": one_if(_read(name) == _label(name)), "sure": sure}
    series = []
    for version, where in wheres.items():
        bins = repository.moments(session, [*where, sure > 0], terms, [(sure - 1) // width])
        points = []
        for (place,), moments in sorted(bins.items()):
            if enough(moments.n, moments.children):
                points.append(Point(round((place + 0.5) / CALIBRATION_BINS, 3), None, moments.n))
                continue
            confidence = moments.total["sure"] / moments.n / PROBABILITY_STEPS
            points.append(point(confidence, clustered.share(sums_of(moments, "right")), moments.n))
        series.append(Series(version, tuple(points)))
    return Chart(
        "reliability", "Reliability: how sure, how often right", "curve", n, "probability of the answer given",
        "share with the decision's class", "share", tuple(series), diagonal=True, note=BY_CHILD, y_range=(0, 1),
    )  # fmt: skip


def _comparison(sheet: SheetBuilder, session: Session, filter: FigureFilter, name: str) -> None:
    """This version minus the other, on the images that both have read."""
    moments = paired_moments(
        session,
        filter,
        lambda this, other: {
            "right": one_if(getattr(this, f"read_{name}") == getattr(this, f"label_{name}"))
            - one_if(getattr(other, f"read_{name}") == getattr(other, f"label_{name}"))
        },
    )
    n = moments.n if moments else 0
    missing = enough(n, moments.children if moments else 0)
    if not n:
        missing = not_enough(0, "the two versions have read no decided image in common")
    nothing = Interval(None, None, None)
    figure = clustered.mean(sums_of(moments, "right")) if moments and not missing else nothing
    sheet.tiles.append(Tile("accuracy_difference", "Same class, difference", figure, n, "share", missing=missing))
    figure = nothing if missing else _auc_difference(session, filter, name)
    sheet.tiles.append(Tile("macro_auc_difference", "Macro AUC, difference", figure, n, missing=missing))


def _auc_difference(session: Session, filter: FigureFilter, name: str) -> Interval:
    """Of the macro AUCs, both over the same images; undefined unless at least two classes occur among them."""
    kinds = CLASSES[filter.task][name]
    other = aliased(AnswerFact)
    columns = [getattr(fact, score_column(name, kind)) for fact in (AnswerFact, other) for kind in kinds]
    where = [*judged_reads(filter), *same_case(other, filter.other_version_id or NO_READ)]
    rows = repository.scores(
        session, [*where, *(c.is_not(None) for c in columns)], _number(_label(name), kinds), columns
    )
    table = np.array(rows, dtype=np.int64).reshape(-1, 2 + len(columns))
    child = np.unique(table[:, 0], return_inverse=True)[1]
    pairs = [
        tuple(clustered.ranking(child, table[:, 1] == i, table[:, 2 + i + of * len(kinds)]) for of in (0, 1))
        for i in range(len(kinds))
    ]
    pairs = [(one, another) for one, another in pairs if one is not None and another is not None]
    if len(pairs) < 2:
        return Interval(None, None, None, "all have the same class")
    value = float(np.mean([one.auc - another.auc for one, another in pairs]))
    psi = np.mean([one.psi - another.psi for one, another in pairs], axis=0)
    return clustered.around(value, psi, pairs[0][0].children)
