"""The readers dashboard: do they agree with each other, what do they change, does the read sway them, how long do they
take? It counts each reader's standing decision about an image once, superseded by another reader or not."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import and_, func
from sqlalchemy.orm import Session

from db.models import AnswerFact, AnswerKind, Influence, RejectReason, Verdict
from db.repositories import figures as repository
from db.repositories.figures import Moments, one_if
from engine import clustered_figures as clustered
from engine.dashboard_sheet import (
    Chart,
    Point,
    Series,
    SheetBuilder,
    Tile,
    enough,
    point,
)
from engine.findings.answers import Task
from engine.findings.bone_age import TWO_READINGS_DIFFER_MONTHS
from engine.radiology_metrics import Interval
from engine.services import class_figures
from engine.services.answer_facts import CLASSES
from engine.services.bone_age_figures import ERROR, bland_altman
from engine.services.class_figures import FIELD_WORDS
from engine.services.figure_filters import Choices, FigureFilter, decisions, of_kind
from engine.services.figure_parts import BY_CHILD, by_month, group_point, sums_of

NOTHING = Interval(None, None, None)
SECONDS = 10  # steps a second
INFLUENCE_WORDS = {
    Influence.AGREED: "read said the same",
    Influence.KEPT: "differed, kept their answer",
    Influence.TOWARDS: "differed, moved towards the read",
    Influence.OTHERWISE: "changed otherwise",
}


def add_to(sheet: SheetBuilder, session: Session, filter: FigureFilter, found: Choices, name: str | None) -> int:
    """Field `name` of the task is what second readers are compared on; None for bone age. Returns the decisions."""
    where = decisions(filter)
    reasons = _reasons(filter.task)
    whole = repository.moments(session, where, reasons | {"rejected": _is(Verdict.REJECTED)}).get(())
    n = whole.n if whole else 0
    answered = [*where, AnswerFact.is_answered, AnswerFact.verdict != Verdict.REJECTED]
    changed = {"changed": _is(Verdict.CORRECTED)}
    overrides = repository.moments(session, answered, changed).get(())
    too_few = enough(n, whole.children if whole else 0)
    sheet.tile("decisions", "Decisions", Interval(float(n), None, None) if n else NOTHING, n, unit="count",
               census=True, missing=too_few)  # fmt: skip
    _share_tile(sheet, "override_rate", "Reads overridden", overrides, "changed")
    _share_tile(sheet, "rejected_share", "Images rejected", whole, "rejected")
    _agreement(sheet, session, filter, found, name)
    _influence(sheet, session, filter)
    sheet.chart(
        Chart(
            "override_by_reason", "Overridden, by reason", "bars", n, "reason", "share of decisions", "share",
            (Series("decisions", tuple(
                point(reason, clustered.share(sums_of(whole, reason)), n) for reason in reasons
            )),) if whole and not too_few else (),
            note=f"One decision can have several reasons. {BY_CHILD}", missing=too_few,
        )
    )  # fmt: skip
    by_reader = repository.moments(session, answered, changed, [AnswerFact.reader_fk])
    sheet.chart(
        Chart(
            "override_by_reader", "Reads overridden, by reader", "bars", overrides.n if overrides else 0, "reader",
            "share of reads", "share", _of_readers(by_reader, "changed", found), note=BY_CHILD,
        )
    )  # fmt: skip
    monthly = repository.moments(session, answered, changed, [AnswerFact.decided_month])
    sheet.chart(
        Chart(
            "override_by_month", "Reads overridden, over time", "line", overrides.n if overrides else 0,
            "month of the decision", "share of reads", "share",
            (by_month("all readers", monthly, "changed", clustered.share),), note=BY_CHILD,
        )
    )  # fmt: skip
    _reading_time(sheet, session, filter, found)
    return n


def _is(verdict: Verdict):
    return one_if(AnswerFact.verdict == verdict)


def _reasons(task: Task) -> dict:
    """What was changed, and why an image was rejected."""
    corrected = and_(AnswerFact.verdict == Verdict.CORRECTED, AnswerFact.is_answered)
    if task is Task.BONE_AGE:
        found = {
            "corrected, younger": one_if(corrected & (ERROR > 0)),
            "corrected, older": one_if(corrected & (ERROR < 0)),
        }
    else:
        found = {
            f"corrected, {FIELD_WORDS[name]}": one_if(
                corrected & (getattr(AnswerFact, f"read_{name}") != getattr(AnswerFact, f"label_{name}"))
            )
            for name in CLASSES[task]
        }
    return found | {
        f"rejected, {reason.replace('_', ' ')}": one_if(AnswerFact.reject_reason == reason) for reason in RejectReason
    }


def _share_tile(sheet: SheetBuilder, key: str, title: str, moments: Moments | None, term: str) -> None:
    n = moments.n if moments else 0
    missing = enough(n, moments.children if moments else 0)
    figure = clustered.share(sums_of(moments, term)) if moments and not missing else NOTHING
    sheet.tile(key, title, figure, n, unit="share", missing=missing)


def _of_readers(moments: dict[tuple, Moments], term: str, found: Choices) -> tuple[Series, ...]:
    points = (
        group_point(found.reader_name(reader), of_reader, term, clustered.share)
        for (reader,), of_reader in sorted(moments.items())
    )
    return (Series("readers", tuple(points)),)


# ---------------------------------------------------------------- agreement of readers, and gold cases


def _agreement(sheet: SheetBuilder, session: Session, filter: FigureFilter, found: Choices, name: str | None) -> None:
    """Second readers, who saw neither the first answer nor its reader, against the first ones."""
    where = of_kind(filter, AnswerKind.SECOND)
    terms = {"same": _same(name)}
    if name is None:
        terms |= {"error": ERROR, "squared": ERROR * ERROR}
    moments = repository.moments(session, where, terms).get(())
    n = moments.n if moments else 0
    missing = enough(n, moments.children if moments else 0)
    title = (
        f"Second reader within {TWO_READINGS_DIFFER_MONTHS} months"
        if name is None
        else f"Second reader, same {FIELD_WORDS[name]}"
    )
    if name is None:
        _share_tile(sheet, "second_read_agreement", title, moments, "same")
        chart = bland_altman(session, where, moments, n, "second reader", "first reader")
        sheet.charts.append(_with(chart, "second_reads", "Second readers (Bland-Altman)", missing))
    else:
        confusion = class_figures.confusion_of(session, where, name, CLASSES[filter.task][name])
        missing = class_figures.why_not_enough(confusion, name)
        kappa = NOTHING if missing else class_figures.kappa_of(confusion, name)
        same = NOTHING if missing else confusion.accuracy()
        sheet.tiles.append(Tile("second_read_agreement", title, same, n, "share", missing=missing))
        title = f"{class_figures.kappa_title(name)}, {FIELD_WORDS[name]}"
        sheet.tiles.append(Tile("second_read_kappa", title, kappa, n, missing=missing))
        chart = class_figures.matrix(confusion, name, "first reader", "second reader")
        sheet.charts.append(_with(chart, "second_reads", f"Second readers, {FIELD_WORDS[name]}", missing))
    gold = repository.moments(session, of_kind(filter, AnswerKind.GOLD), terms, [AnswerFact.reader_fk])
    of_gold = "within 8 months" if name is None else f"same {FIELD_WORDS[name]}"
    sheet.chart(
        Chart(
            "gold_by_reader", f"Gold cases, {of_gold}", "bars", sum(m.n for m in gold.values()), "reader",
            "share of gold cases", "share", _of_readers(gold, "same", found), note=BY_CHILD, y_range=(0, 1),
        )
    )  # fmt: skip


def _same(name: str | None):
    if name is None:
        return one_if(func.abs(ERROR) <= TWO_READINGS_DIFFER_MONTHS)
    return one_if(getattr(AnswerFact, f"read_{name}") == getattr(AnswerFact, f"label_{name}"))


def _with(chart: Chart, key: str, title: str, missing: str | None) -> Chart:
    return replace(chart, key=key, title=title, missing=missing or chart.missing)


# ---------------------------------------------------------------- what the read does to readers


def _influence(sheet: SheetBuilder, session: Session, filter: FigureFilter) -> None:
    """Of the images that a reader answered before they saw the read."""
    where = [*of_kind(filter, AnswerKind.BLIND), AnswerFact.influence.is_not(None)]
    terms = {influence.value: one_if(AnswerFact.influence == influence) for influence in Influence}
    moments = repository.moments(session, where, terms).get(())
    differed = repository.moments(session, [*where, AnswerFact.influence != Influence.AGREED], terms).get(())
    n = moments.n if moments else 0
    missing = enough(n, moments.children if moments else 0)
    _share_tile(sheet, "moved_towards_read", "Moved towards a differing read", differed, Influence.TOWARDS.value)
    bars = (
        tuple(point(words, clustered.share(sums_of(moments, influence.value)), n)
              for influence, words in INFLUENCE_WORDS.items())
        if moments and not missing else ()
    )  # fmt: skip
    sheet.chart(
        Chart(
            "influence", "What seeing the read did (blind first)", "bars", n, "", "share of blind-first answers",
            "share", (Series("blind-first answers", bars),), note=BY_CHILD, missing=missing,
        )
    )  # fmt: skip


# ---------------------------------------------------------------- time


def _reading_time(sheet: SheetBuilder, session: Session, filter: FigureFilter, found: Choices) -> None:
    where = [*decisions(filter), AnswerFact.seconds_tenths.is_not(None)]
    counts = repository.histogram(session, where, [AnswerFact.reader_fk, AnswerFact.seconds_tenths])
    by_reader: dict[int, dict[int, int]] = {}
    whole: dict[int, int] = {}
    for (reader, tenths), count in counts.items():
        by_reader.setdefault(reader, {})[tenths] = count
        whole[tenths] = whole.get(tenths, 0) + count
    n = sum(whole.values())
    missing = enough(n)
    sheet.tile("reading_seconds", "Reading time, median", NOTHING if missing else _median(whole), n, unit="seconds",
               missing=missing)  # fmt: skip
    points = []
    for reader, of_reader in sorted(by_reader.items()):
        cases = sum(of_reader.values())
        name = found.reader_name(reader)
        points.append(Point(name, None, cases) if enough(cases) else point(name, _median(of_reader), cases))
    sheet.chart(
        Chart(
            "reading_seconds_by_reader", "Reading time, median by reader", "bars", n, "reader", "seconds", "seconds",
            (Series("readers", tuple(points)),), note="95 % intervals between order statistics.",
        )
    )  # fmt: skip


def _median(counts: dict[int, int]) -> Interval:
    tenths = sorted(counts)
    return clustered.quantile([value / SECONDS for value in tenths], [counts[value] for value in tenths])
